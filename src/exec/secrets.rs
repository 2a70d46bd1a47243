//! Keeps the values of `secret_env` out of logs, records and messages.

use hamflow_stage_api::StageError;

use crate::config::Stage;

/// Minimum length of a secret in characters. Hiding shorter values would hide ordinary words.
const SHORTEST: usize = 4;

/// The replacement for a secret.
const HIDDEN: &str = "***";

/// The lines of the current values of all secret variables, longest first.
#[derive(Debug, Default)]
pub struct Secrets(Vec<String>);

impl Secrets {
    /// Collects the secrets of all stages together, because a worker may have run jobs of several stages.
    pub fn of(stages: &[Stage]) -> Self {
        Self::from_values(stages.iter().flat_map(|stage| &stage.secret_env).filter_map(|name| std::env::var(name).ok()))
    }

    fn from_values(values: impl Iterator<Item = String>) -> Self {
        let lines = values.flat_map(|value| value.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>());
        let mut lines: Vec<String> = lines.filter(|line| line.chars().count() >= SHORTEST).collect();
        // Longest first: replacing a secret that is a substring of another one would leave the rest of that one readable.
        lines.sort_unstable_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        lines.dedup();
        Self(lines)
    }

    /// Returns the text with all secrets replaced.
    pub fn hide(&self, text: String) -> String {
        self.0.iter().fold(text, |text, secret| match text.contains(secret) {
            true => text.replace(secret, HIDDEN),
            false => text,
        })
    }

    /// Returns the error with all secrets replaced.
    pub fn hide_in_error(&self, error: StageError) -> StageError {
        let StageError { category, message, place, hint } = error;
        let place = place.map(|mut place| {
            place.path = self.hide(place.path);
            place
        });
        StageError { category, message: self.hide(message), place, hint: hint.map(|hint| self.hide(hint)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(values: &[&str]) -> Secrets {
        Secrets::from_values(values.iter().map(|value| (*value).to_owned()))
    }

    #[test]
    fn values_are_hidden_and_short_ones_are_not() {
        assert_eq!(
            secrets(&["s3cret", "no"]).hide("token=s3cret, s3cret; no more".to_owned()),
            "token=***, ***; no more"
        );
    }

    #[test]
    fn the_longest_is_hidden_first_and_every_line_of_a_key() {
        assert_eq!(secrets(&["abcd", "abcdef"]).hide("abcdef abcd".to_owned()), "*** ***");
        let key = secrets(&["-----BEGIN KEY-----\r\nMIIEvQ\nEnd\n"]);
        assert_eq!(key.hide("read MIIEvQ from -----BEGIN KEY-----\nEnd".to_owned()), "read *** from ***\nEnd");
    }

    #[test]
    fn every_text_of_an_error_is_looked_at() {
        let error = StageError::input("no s3cret").hint("try s3cret").at("a/s3cret.csv", 1, 2);
        let hidden = secrets(&["s3cret"]).hide_in_error(error).render();
        assert!(!hidden.contains("s3cret") && hidden.matches(HIDDEN).count() == 3, "{hidden}");
    }
}
