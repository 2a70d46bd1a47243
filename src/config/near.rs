//! Near misses: the name that was probably meant.

/// The known name that is most like `name`, if one is like it at all.
pub fn near<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = name.to_lowercase();
    let length = wanted.chars().count();
    let mut best: Option<(usize, &str)> = None;
    for candidate in known {
        let lower = candidate.to_lowercase();
        let distance = strsim::damerau_levenshtein(&wanted, &lower);
        // A word of two letters is one edit away from too many others.
        let allowed = if length < 3 { 0 } else { (length / 3).max(1) };
        let rank = if distance <= allowed {
            distance
        } else if length >= 3 && lower.starts_with(&wanted) {
            allowed + 1
        } else {
            continue;
        };
        if candidate != name && best.is_none_or(|(least, _)| rank < least) {
            best = Some((rank, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// ``did you mean `epochs`?``, where one of the known names is near.
pub fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    near(name, known).map(|candidate| format!("did you mean `{candidate}`?"))
}

/// Names in a sentence: `` `a`, `b` and `c` ``.
pub fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    joined(names.into_iter().map(|name| format!("`{name}`")).collect(), "and")
}

/// What there is, in a sentence: `` the stages are `a` and `b` ``.
pub fn there_is<'a>(noun: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    match names.len() {
        0 => format!("the file has no {noun}s"),
        1 => format!("the only {noun} is {}", listed(names)),
        _ => format!("the {noun}s are {}", listed(names)),
    }
}

/// Texts in a sentence: `a, b and c`.
pub(crate) fn joined(texts: Vec<String>, last: &str) -> String {
    match &texts[..] {
        [] => "none".to_owned(),
        [one] => one.clone(),
        [most @ .., end] => format!("{} {last} {end}", most.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_the_name_that_was_meant() {
        let known = ["epochs", "batch_size", "model"];
        assert_eq!(near("epoch", known), Some("epochs"));
        assert_eq!(near("Epochs", known), Some("epochs"));
        assert_eq!(near("modle", known), Some("model"));
        assert_eq!(near("batch", known), Some("batch_size"));
        assert_eq!(near("learning_rate", known), None);
    }

    #[test]
    fn a_short_word_is_not_like_every_other_short_word() {
        assert_eq!(near("a", ["b", "c"]), None);
        assert_eq!(near("lr", ["LR"]), Some("LR"));
    }

    #[test]
    fn names_make_a_sentence() {
        assert_eq!(listed(["a"]), "`a`");
        assert_eq!(listed(["a", "b", "c"]), "`a`, `b` and `c`");
    }
}
