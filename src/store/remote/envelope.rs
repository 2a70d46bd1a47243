//! A result as it travels: signed, and bound to its scope and its key.
//!
//! ```text
//! hamflow-result 1
//! ed25519 PUBLIC-KEY SIGNATURE
//! {"scope":"main","result":{…},"packs":[…]}
//! ```
//!
//! The signature (Ed25519, RFC 8032) is over the last line. A result that was copied to the name of another key or to another scope is
//! refused, since the signed bytes name both.

use std::fmt;

use ed25519_dalek::Signer;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::store::action::stays_inside;
use crate::store::{ActionResult, Origin};

const HEADER: &str = "hamflow-result 1\n";

/// What is signed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    /// The scope that it was written to.
    pub scope: String,
    /// The result.
    pub result: ActionResult,
    /// Objects that hold the small ones of the result's blobs.
    pub packs: Vec<Digest>,
    /// Listings and views that its fingerprint names, for explanations and for runs without the inputs.
    pub texts: Vec<Digest>,
}

/// A text that is no key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyError {
    /// What a key looks like.
    wanted: &'static str,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a key is written as `{}` with 64 hexadecimal digits; `hamflow cache keygen` makes a pair",
            self.wanted
        )
    }
}

impl std::error::Error for KeyError {}

const PUBLIC: &str = "ed25519:";
const SECRET: &str = "ed25519-secret:";

/// Signs results. Its text is a secret.
#[derive(Clone)]
pub struct SigningKey(ed25519_dalek::SigningKey);

/// Tells whether a result was signed by its counterpart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyingKey(ed25519_dalek::VerifyingKey);

impl SigningKey {
    /// A new key, from the system's random numbers.
    pub fn generate() -> std::io::Result<Self> {
        let mut seed = [0; 32];
        rustix::rand::getrandom(&mut seed[..], rustix::rand::GetRandomFlags::empty())?;
        Ok(Self(ed25519_dalek::SigningKey::from_bytes(&seed)))
    }

    /// Reads `ed25519-secret:…`.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let seed = text.trim().strip_prefix(SECRET).and_then(bytes);
        Ok(Self(ed25519_dalek::SigningKey::from_bytes(&seed.ok_or(KeyError { wanted: "ed25519-secret:…" })?)))
    }

    /// The text that [`parse`](Self::parse) reads.
    pub fn secret_text(&self) -> String {
        format!("{SECRET}{}", hex(&self.0.to_bytes()))
    }

    /// Its counterpart.
    pub fn verifying_key(&self) -> VerifyingKey {
        VerifyingKey(self.0.verifying_key())
    }
}

impl VerifyingKey {
    /// Reads `ed25519:…`.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let key = text.trim().strip_prefix(PUBLIC).and_then(bytes);
        let key = key.and_then(|bytes| ed25519_dalek::VerifyingKey::from_bytes(&bytes).ok());
        key.map(Self).ok_or(KeyError { wanted: "ed25519:…" })
    }
}

impl fmt::Display for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PUBLIC}{}", hex(self.0.as_bytes()))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes<const N: usize>(hex: &str) -> Option<[u8; N]> {
    let digits = hex.as_bytes();
    if digits.len() != 2 * N || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

/// Whether a scope may be called so: it is part of an object's name.
pub fn is_scope(text: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !text.is_empty() && text.len() <= 100 && !text.starts_with('.') && text.bytes().all(known)
}

/// Who may write to which scope. A pattern may end in `*`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trust {
    /// Patterns of scopes, and the keys that may write to them.
    pub keys: Vec<(String, Vec<VerifyingKey>)>,
}

impl Trust {
    /// The keys that may write to `scope`.
    pub fn of<'a>(&'a self, scope: &'a str) -> impl Iterator<Item = &'a VerifyingKey> {
        let fits = move |pattern: &str| match pattern.strip_suffix('*') {
            Some(start) => scope.starts_with(start),
            None => scope == pattern,
        };
        self.keys.iter().filter(move |(pattern, _)| fits(pattern)).flat_map(|(_, keys)| keys)
    }
}

impl Envelope {
    /// Signs it.
    pub fn seal(&self, key: &SigningKey) -> Vec<u8> {
        let body = serde_json::to_string(self).expect("a result has only string keys");
        let signature = key.0.sign(body.as_bytes());
        let public = hex(key.verifying_key().0.as_bytes());
        format!("{HEADER}ed25519 {public} {}\n{body}\n", hex(&signature.to_bytes())).into_bytes()
    }

    /// Reads what should be the result of `key` in `scope`; says what is wrong with it.
    pub fn open(text: &[u8], scope: &str, key: &str, trust: &Trust) -> Result<Self, String> {
        let text = std::str::from_utf8(text).map_err(|_| "it is not UTF-8")?;
        let rest = text.strip_prefix(HEADER).ok_or("it is no signed result of this version")?;
        let (signature, body) = rest.split_once('\n').ok_or("it is cut off")?;
        let body = body.strip_suffix('\n').ok_or("it is cut off")?;
        let [scheme, signer, signature] = signature.split(' ').collect::<Vec<_>>()[..] else {
            return Err("it has no signature".to_owned());
        };
        let signer: Option<[u8; 32]> = bytes(signer);
        let signature = bytes(signature).map(|bytes| ed25519_dalek::Signature::from_bytes(&bytes));
        let (Some(signer), Some(signature), "ed25519") = (signer, signature, scheme) else {
            return Err("it has no Ed25519 signature".to_owned());
        };
        let trusted = trust.of(scope).find(|key| *key.0.as_bytes() == signer);
        let trusted = trusted.ok_or_else(|| format!("it was signed by a key that may not write to scope `{scope}`"))?;
        trusted.0.verify_strict(body.as_bytes(), &signature).map_err(|_| "its signature is wrong")?;
        let envelope: Self = serde_json::from_str(body).map_err(|error| format!("it is no result: {error}"))?;
        if envelope.scope != scope || envelope.result.key != key {
            return Err(format!("it is the result of {} in scope `{}`", envelope.result.key, envelope.scope));
        }
        if !stays_inside(&envelope.result) {
            return Err("an output would leave its folder".to_owned());
        }
        let origin = Origin { scope: scope.to_owned(), signer: trusted.to_string() };
        Ok(Self { result: ActionResult { origins: vec![origin], ..envelope.result }, ..envelope })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(key: &str) -> Envelope {
        let result = serde_json::json!({"key": key, "fingerprint": null, "outputs": [], "cost_ms": 1});
        Envelope {
            scope: "main".into(),
            result: serde_json::from_value(result).unwrap(),
            packs: Vec::new(),
            texts: Vec::new(),
        }
    }

    fn trust(pattern: &str, key: &SigningKey) -> Trust {
        Trust { keys: vec![(pattern.to_owned(), vec![key.verifying_key()])] }
    }

    #[test]
    fn only_what_a_trusted_key_signed_for_this_scope_and_key_is_opened() {
        let (ours, theirs) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let sealed = envelope("k").seal(&ours);
        let open = |text: &[u8], scope: &str, key: &str, trust: &Trust| Envelope::open(text, scope, key, trust);
        let opened = open(&sealed, "main", "k", &trust("main", &ours)).unwrap();
        let origin = Origin { scope: "main".into(), signer: ours.verifying_key().to_string() };
        assert_eq!(opened.result.origins, [origin]);
        assert_eq!(ActionResult { origins: Vec::new(), ..opened.result }, envelope("k").result);
        let refused = |text: &[u8], scope: &str, key: &str, trust: &Trust| open(text, scope, key, trust).unwrap_err();
        assert!(refused(&sealed, "main", "k", &trust("main", &theirs)).contains("may not write to scope `main`"));
        assert!(refused(&sealed, "main", "k", &trust("pr-*", &ours)).contains("may not write to scope `main`"));
        assert!(refused(&sealed, "main", "other", &trust("main", &ours)).contains("it is the result of k"));
        assert!(refused(&sealed, "pr-1", "k", &trust("*", &ours)).contains("in scope `main`"));
        let text = String::from_utf8(sealed.clone()).unwrap();
        let forged = text.replace("\"cost_ms\":1", "\"cost_ms\":2");
        assert_eq!(refused(forged.as_bytes(), "main", "k", &trust("main", &ours)), "its signature is wrong");
        assert!(refused(&sealed[..sealed.len() - 1], "main", "k", &trust("main", &ours)).contains("cut off"));
        assert!(refused(b"{}", "main", "k", &trust("main", &ours)).contains("no signed result"));
    }

    #[test]
    fn an_output_that_would_leave_its_folder_is_refused_even_signed() {
        let key = SigningKey::generate().unwrap();
        let mut evil = envelope("k");
        let output = serde_json::json!({"name": "x", "type": "file", "path": "../x", "folder": false,
            "digest": Digest::of(b"").to_string()});
        evil.result.outputs = vec![serde_json::from_value(output).unwrap()];
        let refused = Envelope::open(&evil.seal(&key), "main", "k", &trust("main", &key)).unwrap_err();
        assert_eq!(refused, "an output would leave its folder");
    }

    #[test]
    fn keys_are_read_back_and_scopes_are_single_steps_of_a_path() {
        let key = SigningKey::generate().unwrap();
        let again = SigningKey::parse(&key.secret_text()).unwrap();
        assert_eq!(again.verifying_key(), VerifyingKey::parse(&key.verifying_key().to_string()).unwrap());
        assert!(SigningKey::parse(&key.verifying_key().to_string()).is_err());
        assert!(VerifyingKey::parse("ed25519:123").is_err());
        assert!(is_scope("pr-12") && is_scope("release_1.0"));
        assert!(["", "..", "a/b", ".hidden", "ä"].iter().all(|scope| !is_scope(scope)));
    }

    // RFC 8032, section 7.1, test 2: the signature of the one byte 0x72.
    #[test]
    fn signatures_are_those_of_rfc_8032() {
        let key = SigningKey::parse("ed25519-secret:4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
            .unwrap();
        assert_eq!(
            key.verifying_key().to_string(),
            "ed25519:3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
        );
        assert!(
            hex(&key.0.sign(&[0x72]).to_bytes())
                .starts_with("92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da")
        );
    }
}
