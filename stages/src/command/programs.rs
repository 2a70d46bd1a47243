//! Which arguments are code for the program that gets them.

/// Names of shells, without their folder.
const SHELLS: [&str; 9] = ["ash", "bash", "dash", "ksh", "ksh93", "mksh", "rbash", "sh", "zsh"];

/// How an interpreter is told its code.
struct Interpreter {
    /// The name, without a version.
    name: &'static str,
    /// The last letter of a short option whose value is code: `c` in `-c` and `-Ic`.
    short: &'static str,
    /// Long options whose value is code.
    long: &'static [&'static str],
    /// Letters of short options that take a value of another kind.
    valued: &'static str,
    /// Whether the first operand is code, unless an option was.
    is_operand: bool,
}

const INTERPRETERS: [Interpreter; 13] = [
    Interpreter { name: "python", short: "c", long: &[], valued: "WXm", is_operand: false },
    Interpreter { name: "perl", short: "eE", long: &[], valued: "ICFM", is_operand: false },
    Interpreter { name: "ruby", short: "e", long: &[], valued: "IrC", is_operand: false },
    Interpreter { name: "node", short: "ep", long: &["--eval", "--print"], valued: "r", is_operand: false },
    Interpreter { name: "Rscript", short: "e", long: &[], valued: "", is_operand: false },
    Interpreter { name: "R", short: "e", long: &[], valued: "f", is_operand: false },
    Interpreter { name: "julia", short: "eE", long: &["--eval", "--print"], valued: "LtpC", is_operand: false },
    Interpreter { name: "php", short: "r", long: &["--run"], valued: "dcf", is_operand: false },
    Interpreter { name: "lua", short: "e", long: &[], valued: "l", is_operand: false },
    Interpreter { name: "awk", short: "", long: &[], valued: "Fvf", is_operand: true },
    Interpreter { name: "gawk", short: "e", long: &["--source"], valued: "Fvfi", is_operand: true },
    Interpreter { name: "mawk", short: "", long: &[], valued: "Fvf", is_operand: true },
    Interpreter { name: "sed", short: "e", long: &["--expression"], valued: "fl", is_operand: true },
];

fn base_name(argument: &str) -> &str {
    argument.rsplit('/').next().unwrap_or_default()
}

/// The indices of scripts among the arguments: for each shell with `-c` in its options, the first operand.
pub(super) fn scripts(arguments: &[String]) -> Vec<usize> {
    let shells = (0..arguments.len()).filter(|index| SHELLS.contains(&base_name(&arguments[*index])));
    shells.filter_map(|shell| script(arguments, shell)).collect()
}

fn script(arguments: &[String], shell: usize) -> Option<usize> {
    let (mut has_script, mut index) = (false, shell + 1);
    loop {
        let argument = arguments.get(index)?;
        let Some(letters) = argument.strip_prefix(['-', '+']).filter(|letters| !letters.is_empty()) else {
            return has_script.then_some(index);
        };
        if !letters.starts_with('-') {
            // Letters that no shell knows are not its options.
            if letters.chars().any(|letter| !"abcefhiklmnoprstuvxBCDEHOPT".contains(letter)) {
                return None;
            }
            has_script |= letters.contains('c');
            // `-o pipefail` and `-O xpg_echo` take a value.
            index += usize::from(letters.ends_with(['o', 'O']));
        }
        index += 1;
    }
}

/// The indices of arguments that an interpreter such as Python runs as code, or that contain code.
pub(super) fn code(arguments: &[String]) -> Vec<usize> {
    let interpreter = |argument: &String| {
        let name = base_name(argument).trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
        INTERPRETERS.iter().find(|known| known.name == name)
    };
    let found = (0..arguments.len()).filter_map(|index| Some((index, interpreter(&arguments[index])?)));
    found.flat_map(|(index, interpreter)| interpreter.code(arguments, index + 1)).collect()
}

impl Interpreter {
    /// The indices of code among its own arguments, which start at `index`.
    fn code(&self, arguments: &[String], mut index: usize) -> Vec<usize> {
        let mut found = Vec::new();
        while let Some(argument) = arguments.get(index) {
            let Some(option) = argument.strip_prefix('-').filter(|option| !option.is_empty()) else {
                if self.is_operand && found.is_empty() {
                    found.push(index);
                }
                return found;
            };
            let is_attached = self.long.iter().find_map(|name| {
                let rest = argument.strip_prefix(name)?;
                (rest.is_empty() || rest.starts_with('=')).then_some(!rest.is_empty())
            });
            if let Some(is_attached) = is_attached {
                found.push(if is_attached { index } else { index + 1 });
                index += 1 + usize::from(!is_attached);
                continue;
            }
            match option.find(|letter| self.short.contains(letter) || self.valued.contains(letter)) {
                Some(place) if !option.starts_with('-') => {
                    let (letter, rest) = (&option[place..=place], &option[place + 1..]);
                    // In `node -pe CODE`, both letters mean the next argument.
                    let is_attached = !rest.chars().all(|letter| self.short.contains(letter));
                    if self.short.contains(letter) {
                        found.push(if is_attached { index } else { index + 1 });
                    } else if self.is_operand && letter == "f" {
                        // The program is in a file.
                        return found;
                    } else if letter == "m" && self.name == "python" {
                        return found;
                    }
                    index += 1 + usize::from(!is_attached);
                }
                _ => index += 1,
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(search: fn(&[String]) -> Vec<usize>, line: &str) -> Vec<usize> {
        search(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn scripts_of_shells_are_found() {
        assert_eq!(find(scripts, "env X=1 /bin/bash -e -c SCRIPT a"), [5]);
        assert_eq!(find(scripts, "bash -eo pipefail -c SCRIPT"), [4]);
        assert_eq!(find(scripts, "find . -exec sh -c A ; -exec bash -ec B ;"), [5, 10]);
        for line in ["bash script.sh -c x", "bash run.sh -config x", "bash -config x", "python3 -c X", "bash"] {
            assert!(find(scripts, line).is_empty(), "{line}");
        }
    }

    #[test]
    fn code_of_interpreters_is_found() {
        for (line, expected) in [
            ("/usr/bin/python3.11 -u -W ignore -c CODE x", &[5][..]),
            ("python -Ic CODE", &[2]),
            ("perl -lne CODE -e MORE file", &[2, 4]),
            ("node --eval=CODE", &[1]),
            ("node --eval CODE", &[2]),
            ("node -pe CODE", &[2]),
            ("awk -F , -v x=1 CODE file", &[5]),
            ("sed -n -e A -e B file", &[3, 5]),
            ("sed s/a/b/ file", &[1]),
            ("ruby -eCODE", &[1]),
        ] {
            assert_eq!(find(code, line), expected, "{line}");
        }
        for line in [
            "python3 train.py -c CONFIG",
            "python3 -m pkg -c x",
            "node t.js -p x",
            "Rscript t.R -e x",
            "awk -f prog.awk file",
            "cat -e x",
        ] {
            assert!(find(code, line).is_empty(), "{line}");
        }
    }
}
