//! Keeps the values of `secret_env` out of logs, records and messages.

use crate::config::Stage;

/// Shorter values would hide ordinary words.
const SHORTEST: usize = 4;

/// What stands in place of a secret.
const HIDDEN: &str = "***";

/// The text without the values that the stage's secret variables have now.
pub fn hide(stage: &Stage, text: String) -> String {
    hide_values(stage.secret_env.iter().filter_map(|name| std::env::var(name).ok()), text)
}

fn hide_values(values: impl Iterator<Item = String>, text: String) -> String {
    values.filter(|value| value.len() >= SHORTEST).fold(text, |text, value| match text.contains(&value) {
        true => text.replace(&value, HIDDEN),
        false => text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_hidden_and_short_ones_are_not() {
        let values = ["s3cret".to_owned(), "no".to_owned()].into_iter();
        assert_eq!(hide_values(values, "token=s3cret, s3cret; no more".to_owned()), "token=***, ***; no more");
    }
}
