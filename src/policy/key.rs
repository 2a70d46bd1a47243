//! Signing keys: Ed25519 key pairs, or a secret shared by all readers and writers.

use std::fmt;

use ed25519_dalek::Signer;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

const PUBLIC: &str = "ed25519:";
const SECRET: &str = "ed25519-secret:";
const SHARED_NAME: &str = "hmac-sha256:";
const SHARED_SECRET: &str = "hmac-sha256-secret:";

/// A string that is not a valid key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a key is written as {expected} with 64 hexadecimal digits; `hamflow cache keygen` makes one")]
pub struct KeyError {
    /// The accepted formats.
    expected: &'static str,
}

/// A key that signs results. Its text is secret.
#[derive(Clone)]
pub enum SigningKey {
    /// Ed25519 (RFC 8032): the signature can be verified without being able to sign.
    Ed25519(ed25519_dalek::SigningKey),
    /// HMAC-SHA-256 (RFC 2104): everyone who can verify the signature can also sign.
    Shared(SharedSecret),
}

/// A key that verifies signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VerifyingKey {
    /// The public key of a key pair.
    Ed25519(ed25519_dalek::VerifyingKey),
    /// The name of a shared secret. The secret cannot be derived from it.
    Shared([u8; 32]),
}

/// A secret shared by all readers and writers.
#[derive(Clone, PartialEq, Eq)]
pub struct SharedSecret([u8; 32]);

impl fmt::Debug for SharedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedSecret(…)")
    }
}

impl SharedSecret {
    fn name(&self) -> [u8; 32] {
        blake3::derive_key("hamflow 2026-11 name of a shared secret", &self.0)
    }

    fn mac(&self, text: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(text);
        mac
    }
}

fn random() -> std::io::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    crate::sys::random_bytes(&mut bytes)?;
    Ok(bytes)
}

impl SigningKey {
    /// Generates a key pair with the system's random number generator.
    pub fn generate() -> std::io::Result<Self> {
        Ok(Self::Ed25519(ed25519_dalek::SigningKey::from_bytes(&random()?)))
    }

    /// Generates a shared secret with the system's random number generator.
    pub fn generate_shared() -> std::io::Result<Self> {
        Ok(Self::Shared(SharedSecret(random()?)))
    }

    /// Parses `ed25519-secret:…` or `hmac-sha256-secret:…`.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        if let Some(secret) = text.strip_prefix(SHARED_SECRET).and_then(bytes) {
            return Ok(Self::Shared(SharedSecret(secret)));
        }
        let seed = text.strip_prefix(SECRET).and_then(bytes);
        let expected = "`ed25519-secret:…` or `hmac-sha256-secret:…`";
        Ok(Self::Ed25519(ed25519_dalek::SigningKey::from_bytes(&seed.ok_or(KeyError { expected })?)))
    }

    /// The inverse of [`parse`](Self::parse). The text is secret.
    pub fn secret_text(&self) -> String {
        match self {
            Self::Ed25519(key) => format!("{SECRET}{}", hex(&key.to_bytes())),
            Self::Shared(secret) => format!("{SHARED_SECRET}{}", hex(&secret.0)),
        }
    }

    /// The key that verifies signatures of this one.
    pub fn verifying_key(&self) -> VerifyingKey {
        match self {
            Self::Ed25519(key) => VerifyingKey::Ed25519(key.verifying_key()),
            Self::Shared(secret) => VerifyingKey::Shared(secret.name()),
        }
    }

    /// The shared secret, if this is one.
    pub fn shared(&self) -> Option<&SharedSecret> {
        match self {
            Self::Ed25519(_) => None,
            Self::Shared(secret) => Some(secret),
        }
    }

    /// Signs a text. Returns the scheme, the signer and the signature, separated by spaces.
    pub fn sign(&self, text: &[u8]) -> String {
        let signature = match self {
            Self::Ed25519(key) => hex(&key.sign(text).to_bytes()),
            Self::Shared(secret) => hex(&secret.mac(text).finalize().into_bytes()),
        };
        format!("{} {signature}", self.verifying_key().to_string().replace(':', " "))
    }
}

impl VerifyingKey {
    /// Parses `ed25519:…` or `hmac-sha256:…`.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        if let Some(name) = text.strip_prefix(SHARED_NAME).and_then(bytes) {
            return Ok(Self::Shared(name));
        }
        let key = text.strip_prefix(PUBLIC).and_then(bytes);
        let key = key.and_then(|bytes| ed25519_dalek::VerifyingKey::from_bytes(&bytes).ok());
        key.map(Self::Ed25519).ok_or(KeyError { expected: "`ed25519:…` or `hmac-sha256:…`" })
    }

    /// Verifies a signature of this key. `known` is the shared secret of this machine. The error says what is wrong.
    pub(crate) fn verify(
        &self,
        text: &[u8],
        signature: &str,
        known: Option<&SharedSecret>,
    ) -> Result<(), &'static str> {
        const INVALID: &str = "invalid signature";
        match self {
            Self::Ed25519(key) => {
                let signature = ed25519_dalek::Signature::from_bytes(&bytes(signature).ok_or(INVALID)?);
                key.verify_strict(text, &signature).map_err(|_| INVALID)
            }
            Self::Shared(name) => {
                let secret = known.filter(|secret| secret.name() == *name);
                let secret = secret.ok_or("signed with an unknown shared secret")?;
                let signature: [u8; 32] = bytes(signature).ok_or(INVALID)?;
                secret.mac(text).verify_slice(&signature).map_err(|_| INVALID)
            }
        }
    }
}

impl fmt::Display for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ed25519(key) => write!(f, "{PUBLIC}{}", hex(key.as_bytes())),
            Self::Shared(name) => write!(f, "{SHARED_NAME}{}", hex(name)),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_back() {
        for key in [SigningKey::generate().unwrap(), SigningKey::generate_shared().unwrap()] {
            let again = SigningKey::parse(&key.secret_text()).unwrap();
            assert_eq!(again.verifying_key(), VerifyingKey::parse(&key.verifying_key().to_string()).unwrap());
            assert!(SigningKey::parse(&key.verifying_key().to_string()).is_err());
            let secret = key.secret_text();
            let (_, digits) = secret.split_once(':').unwrap();
            assert!(!key.verifying_key().to_string().contains(digits));
        }
        assert!(VerifyingKey::parse("ed25519:123").is_err());
    }

    // RFC 8032, section 7.1, test 2: the signature of the one byte 0x72.
    #[test]
    fn signatures_are_those_of_rfc_8032() {
        let key = SigningKey::parse("ed25519-secret:4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
            .unwrap();
        let public = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";
        assert_eq!(key.verifying_key().to_string(), format!("ed25519:{public}"));
        let signed = key.sign(&[0x72]);
        assert!(signed.starts_with(&format!(
            "ed25519 {public} 92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        )));
    }

    // RFC 4231 has no key of 32 bytes, so: python3 -c 'import hmac; print(hmac.new(bytes(range(32)), b"hamflow", "sha256").hexdigest())'
    #[test]
    fn shared_signatures_are_hmac_sha256() {
        let digits: String = (0..32).map(|byte| format!("{byte:02x}")).collect();
        let key = SigningKey::parse(&format!("hmac-sha256-secret:{digits}")).unwrap();
        let signed = key.sign(b"hamflow");
        let (_, mac) = signed.rsplit_once(' ').unwrap();
        assert_eq!(mac, "e666f846a3a1b24e6eeb6328b0f06b973233445af8c3c473ef697a916d79a492");
        let name = key.verifying_key();
        assert_eq!(name.verify(b"hamflow", mac, key.shared()), Ok(()));
        assert_eq!(name.verify(b"hamfloW", mac, key.shared()), Err("invalid signature"));
        let other = SigningKey::generate_shared().unwrap();
        for known in [None, other.shared()] {
            assert!(name.verify(b"hamflow", mac, known).unwrap_err().contains("unknown shared secret"));
        }
    }
}
