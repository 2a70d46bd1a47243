//! Signed results in a remote.
//!
//! ```text
//! hamflow-result 1
//! ed25519 PUBLIC-KEY SIGNATURE
//! {"scope":"main","result":{…},"packs":[…]}
//! ```
//!
//! The signature (Ed25519, RFC 8032, or HMAC-SHA-256, RFC 2104) covers the last line. Since the signed bytes contain the key and the
//! scope, a result that was copied to another key or scope is rejected.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::policy::{SigningKey, Trust, VerifyingKey};
use crate::store::{ActionKey, ActionResult, Origin};

const HEADER: &str = "hamflow-result 1\n";

/// The signed content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    /// The scope that it was written to.
    pub scope: String,
    /// The result.
    pub result: ActionResult,
    /// Packs with the small blobs of the result.
    pub packs: Vec<Digest>,
    /// Listings and views that the fingerprint refers to, for explanations and for runs without the inputs.
    pub texts: Vec<Digest>,
}

impl Envelope {
    /// Serializes and signs the envelope.
    pub fn sign(&self, key: &SigningKey) -> Vec<u8> {
        let body = serde_json::to_string(self).expect("a result has only string keys");
        format!("{HEADER}{}\n{body}\n", key.sign(body.as_bytes())).into_bytes()
    }

    /// Verifies and parses the signed result of `key` in `scope`. The error says what is wrong with it.
    pub fn verify(text: &[u8], scope: &str, key: &ActionKey, trust: &Trust) -> Result<Self, String> {
        let text = std::str::from_utf8(text).map_err(|_| "not UTF-8")?;
        let rest = text.strip_prefix(HEADER).ok_or("not a signed result in a supported format")?;
        let (signature, body) = rest.split_once('\n').ok_or("truncated")?;
        let body = body.strip_suffix('\n').ok_or("truncated")?;
        let [scheme, signer, signature] = signature.split(' ').collect::<Vec<_>>()[..] else {
            return Err("no signature".to_owned());
        };
        let signer = VerifyingKey::parse(&format!("{scheme}:{signer}")).map_err(|_| "unknown signature scheme")?;
        let trusted = trust.keys_for(scope).find(|key| **key == signer);
        let trusted = trusted.ok_or_else(|| format!("signed by a key that may not write to scope `{scope}`"))?;
        trusted.verify(body.as_bytes(), signature, trust.shared.as_ref())?;
        let envelope: Self = serde_json::from_str(body).map_err(|error| format!("invalid content: {error}"))?;
        if envelope.scope != scope || envelope.result.key != *key {
            return Err(format!("signed for key {} in scope `{}`", envelope.result.key, envelope.scope));
        }
        let origin = Origin { scope: scope.to_owned(), signer: trusted.to_string() };
        Ok(Self { result: ActionResult { origins: vec![origin], ..envelope.result }, ..envelope })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(of: &str) -> ActionKey {
        ActionKey::of(of)
    }

    fn envelope(of: &str) -> Envelope {
        let result = serde_json::json!({"key": key(of), "fingerprint": null, "outputs": [], "cost_ms": 1});
        Envelope {
            scope: "main".into(),
            result: serde_json::from_value(result).unwrap(),
            packs: Vec::new(),
            texts: Vec::new(),
        }
    }

    fn trust(pattern: &str, key: &SigningKey) -> Trust {
        Trust { keys: vec![(pattern.to_owned(), vec![key.verifying_key()])], shared: None }
    }

    #[test]
    fn only_a_trusted_signature_for_this_scope_and_key_is_accepted() {
        let (ours, theirs) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let signed = envelope("k").sign(&ours);
        let open = |text: &[u8], scope: &str, of: &str, trust: &Trust| Envelope::verify(text, scope, &key(of), trust);
        let opened = open(&signed, "main", "k", &trust("main", &ours)).unwrap();
        let origin = Origin { scope: "main".into(), signer: ours.verifying_key().to_string() };
        assert_eq!(opened.result.origins, [origin]);
        assert_eq!(ActionResult { origins: Vec::new(), ..opened.result }, envelope("k").result);
        let refused = |text: &[u8], scope: &str, key: &str, trust: &Trust| open(text, scope, key, trust).unwrap_err();
        assert!(refused(&signed, "main", "k", &trust("main", &theirs)).contains("may not write to scope `main`"));
        assert!(refused(&signed, "main", "k", &trust("pr-*", &ours)).contains("may not write to scope `main`"));
        assert!(refused(&signed, "main", "other", &trust("main", &ours)).contains("signed for key "));
        assert!(refused(&signed, "pr-1", "k", &trust("*", &ours)).contains("in scope `main`"));
        let text = String::from_utf8(signed.clone()).unwrap();
        let forged = text.replace("\"cost_ms\":1", "\"cost_ms\":2");
        assert_eq!(refused(forged.as_bytes(), "main", "k", &trust("main", &ours)), "invalid signature");
        assert!(refused(&signed[..signed.len() - 1], "main", "k", &trust("main", &ours)).contains("truncated"));
        assert!(refused(b"{}", "main", "k", &trust("main", &ours)).contains("not a signed result"));
    }

    #[test]
    fn a_signed_output_outside_of_its_directory_is_rejected() {
        let signing = SigningKey::generate().unwrap();
        for path in ["../x", "", "/x"] {
            let output = serde_json::json!({"name": "x", "type": "file", "path": path, "folder": false,
                "digest": Digest::of(b"").to_string()});
            let mut evil = serde_json::to_value(envelope("k")).unwrap();
            evil["result"]["outputs"] = serde_json::json!([output]);
            let body = evil.to_string();
            let signed = format!("{HEADER}{}\n{body}\n", signing.sign(body.as_bytes()));
            let refused = Envelope::verify(signed.as_bytes(), "main", &key("k"), &trust("main", &signing)).unwrap_err();
            assert!(refused.starts_with("invalid content: output \"x\": invalid path"), "{refused}");
        }
    }

    #[test]
    fn results_signed_with_a_shared_secret_are_accepted_by_its_holders() {
        let (ours, theirs) = (SigningKey::generate_shared().unwrap(), SigningKey::generate_shared().unwrap());
        let signed = envelope("k").sign(&ours);
        let with = |known: Option<&SigningKey>| Trust {
            shared: known.and_then(|key| key.shared().cloned()),
            ..trust("main", &ours)
        };
        assert!(Envelope::verify(&signed, "main", &key("k"), &with(Some(&ours))).is_ok());
        for known in [None, Some(&theirs)] {
            let refused = Envelope::verify(&signed, "main", &key("k"), &with(known)).unwrap_err();
            assert_eq!(refused, "signed with an unknown shared secret");
        }
        let text = String::from_utf8(signed).unwrap().replace("\"cost_ms\":1", "\"cost_ms\":2");
        let forged = Envelope::verify(text.as_bytes(), "main", &key("k"), &with(Some(&ours)));
        assert_eq!(forged.unwrap_err(), "invalid signature");
    }
}
