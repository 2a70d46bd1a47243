//! Which keys may write to which scope of a remote.

use super::key::{SharedSecret, VerifyingKey};

/// Whether this is a valid scope name; it becomes part of an object's name.
pub fn is_scope(text: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !text.is_empty() && text.len() <= 100 && !text.starts_with('.') && text.bytes().all(known)
}

/// Who may write to which scope. A pattern may end in `*`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trust {
    /// Patterns of scopes, and the keys that may write to them.
    pub keys: Vec<(String, Vec<VerifyingKey>)>,
    /// The shared secret of this machine, without which signatures made with it cannot be checked.
    pub shared: Option<SharedSecret>,
}

impl Trust {
    /// The keys that may write to `scope`.
    pub fn keys_for<'a>(&'a self, scope: &'a str) -> impl Iterator<Item = &'a VerifyingKey> {
        let fits = move |pattern: &str| match pattern.strip_suffix('*') {
            Some(start) => scope.starts_with(start),
            None => scope == pattern,
        };
        self.keys.iter().filter(move |(pattern, _)| fits(pattern)).flat_map(|(_, keys)| keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_single_steps_of_a_path() {
        assert!(is_scope("pr-12") && is_scope("release_1.0"));
        assert!(["", "..", "a/b", ".hidden", "ä"].iter().all(|scope| !is_scope(scope)));
    }
}
