//! Words for "not known".

/// What people and programs write for a missing value, in lower case: spreadsheets, R, pandas
/// (`pandas._libs.parsers.STR_NA_VALUES`), polars, SQL, the archive of ISIC and HAM10000.
const WORDS: [&str; 30] = [
    "",
    "na",
    "n/a",
    "n.a.",
    "#n/a",
    "#n/a n/a",
    "#na",
    "<na>",
    "nan",
    "-nan",
    "1.#ind",
    "-1.#ind",
    "1.#qnan",
    "-1.#qnan",
    "null",
    "none",
    "nil",
    "unknown",
    "unspecified",
    "not specified",
    "undefined",
    "not available",
    "not known",
    "missing",
    "?",
    "-",
    "--",
    ".",
    "#value!",
    "#ref!",
];

/// Whether a value of a table says that the value is not known.
pub fn is_unknown(value: &str) -> bool {
    let value = value.trim();
    // The longest word has 13 letters; most values are longer or are decided by their first letter.
    value.len() <= 13 && WORDS.iter().any(|word| word.eq_ignore_ascii_case(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_recognised_in_any_case_and_with_spaces() {
        for word in ["", " ", "NA", "NaN", "n/a", "None", "Unknown ", "NULL", "<NA>", "?", "not available"] {
            assert!(is_unknown(word), "{word}");
        }
        for value in ["0", "nail", "nano", "back", "unknown site", "N", "no"] {
            assert!(!is_unknown(value), "{value}");
        }
        assert!(WORDS.iter().all(|word| word.len() <= 13 && *word == word.to_ascii_lowercase()));
    }
}
