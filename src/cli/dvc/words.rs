//! Paths in commands.

use std::collections::BTreeSet;

use super::template::MARK;

/// Replaces words that are one of the paths, or below it, by placeholders, and escapes everything else. Words with quotes stay as they are.
///
/// `folder` is where the command runs. Returns the paths that were replaced, too.
pub(super) fn with_placeholders(command: &str, folder: &str, paths: &[(String, String)]) -> (String, BTreeSet<String>) {
    let (mut text, mut used) = (String::new(), BTreeSet::new());
    let mut word = String::new();
    let mut quote = None;
    let mut end_word = |word: &mut String, text: &mut String| {
        match replaced(word, folder, paths) {
            Some((path, replacement)) => {
                used.insert(path);
                text.push_str(&replacement);
            }
            None => text.push_str(&escaped(word)),
        }
        word.clear();
    };
    for c in command.trim().chars() {
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if c == '"' || c == '\'' => quote = Some(c),
            None if c.is_whitespace() || "|&;()<>".contains(c) => {
                end_word(&mut word, &mut text);
                text.push(c);
                continue;
            }
            None => {}
        }
        word.push(c);
    }
    end_word(&mut word, &mut text);
    (text, used)
}

/// The path in a word, and the word with the placeholder: `PATH`, `PATH/rest`, `--option=PATH`.
fn replaced(word: &str, folder: &str, paths: &[(String, String)]) -> Option<(String, String)> {
    if word.is_empty() || word.contains(['"', '\'', '\\', '$', '`', MARK]) {
        return None;
    }
    let (option, value) = match word.split_once('=') {
        Some((option, value)) => (format!("{}=", escaped(option)), value),
        None => (String::new(), word),
    };
    let path = joined(folder, value);
    // The longest path that fits.
    let mut fitting: Vec<&(String, String)> = paths
        .iter()
        .filter(|(known, _)| path == *known || path.strip_prefix(&known[..]).is_some_and(|rest| rest.starts_with('/')))
        .collect();
    fitting.sort_by_key(|(known, _)| known.len());
    let (known, placeholder) = fitting.last()?;
    let rest = &path[known.len()..];
    Some((known.clone(), format!("{option}{placeholder}{}", escaped(rest))))
}

/// Doubles braces, and makes placeholders of marked parameters. Quotes around a single one go: its value is always one word.
fn escaped(text: &str) -> String {
    let mut result = String::new();
    for (place, piece) in text.split(MARK).enumerate() {
        if place % 2 == 1 {
            result.push_str(&format!("{{params.{piece}}}"));
        } else {
            result.push_str(&piece.replace('{', "{{").replace('}', "}}"));
        }
    }
    for quote in ['"', '\''] {
        if let Some(inner) = result.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote))
            && inner.starts_with("{params.")
            && inner.ends_with('}')
            && inner.matches('{').count() == 1
        {
            return inner.to_owned();
        }
    }
    result
}

/// A path below a folder, without `.` and `..`.
pub(super) fn joined(folder: &str, path: &str) -> String {
    if path.starts_with('/') || path.contains("://") {
        return path.to_owned();
    }
    let mut steps: Vec<&str> = folder.split('/').filter(|step| !step.is_empty()).collect();
    for step in path.split('/') {
        match step {
            "" | "." => {}
            ".." if steps.last().is_some_and(|last| *last != "..") => drop(steps.pop()),
            _ => steps.push(step),
        }
    }
    steps.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_words_become_placeholders_and_braces_are_doubled() {
        let paths = [("data/x".to_owned(), "{inputs.x}".to_owned()), ("data/x/y".to_owned(), "{inputs.y}".to_owned())];
        let line =
            "awk '{print $1}' ./data/x --in=data/x/y/z.csv <data/x \"data/x\" data/xy \u{1}a.b\u{1} \"\u{1}c\u{1}\"";
        let (text, used) = with_placeholders(line, "", &paths);
        let expected = "awk '{{print $1}}' {inputs.x} --in={inputs.y}/z.csv <{inputs.x} \"data/x\" data/xy {params.a.b} {params.c}";
        assert_eq!(text, expected);
        assert_eq!(used.len(), 2);
        let (text, _) = with_placeholders("cat ../data/x x", "src", &paths);
        assert_eq!(text, "cat {inputs.x} x");
    }
}
