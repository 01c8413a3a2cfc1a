//! How the caller and the serving process talk: one JSON document each way, over pipes.
//!
//! **Invariant:** whatever the other side sends (nothing, half a document, too much, garbage), the answer is an
//! error that says so; nothing is acted upon before the whole document was understood.

use std::io::{self, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest document that is accepted, in bytes. A request names each slot once, and there are at most 65,535.
pub const LONGEST_DOCUMENT: u64 = 64 << 20;

/// Why a document did not arrive or could not be sent.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The other side closed the pipe without a word.
    #[error("the {from} said nothing before it closed the pipe")]
    Silent {
        /// Who should have spoken.
        from: &'static str,
    },
    /// More bytes than a document may have.
    #[error("the {from} sent more than {LONGEST_DOCUMENT} bytes")]
    TooLong {
        /// Who sent it.
        from: &'static str,
    },
    /// The document is not what it should be.
    #[error("what the {from} sent cannot be understood: {reason}")]
    Garbled {
        /// Who sent it.
        from: &'static str,
        /// What the parser says.
        reason: String,
    },
    /// The pipe failed.
    #[error("cannot {action} the {peer}: {source}")]
    Pipe {
        /// `hear` or `tell`.
        action: &'static str,
        /// The other side.
        peer: &'static str,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

/// Writes `document` to `pipe`; `to` names the reader in errors. The pipe's end is the document's end, so close it
/// afterwards.
///
/// # Errors
/// The document cannot be encoded, or the reader has gone.
pub fn send(pipe: &mut impl Write, to: &'static str, document: &impl Serialize) -> Result<(), WireError> {
    let failed = |source| WireError::Pipe { action: "tell", peer: to, source };
    let bytes = serde_json::to_vec(document).map_err(|error| failed(error.into()))?;
    pipe.write_all(&bytes).and_then(|()| pipe.flush()).map_err(failed)
}

/// Reads the one document that `pipe` carries to its end; `from` names the writer in errors.
///
/// # Errors
/// Nothing came, too much came, or it is not such a document.
pub fn receive<T: DeserializeOwned>(pipe: &mut impl Read, from: &'static str) -> Result<T, WireError> {
    let mut bytes = Vec::new();
    let mut limited = pipe.take(LONGEST_DOCUMENT + 1);
    limited.read_to_end(&mut bytes).map_err(|source| WireError::Pipe {
        action: "hear",
        peer: from,
        source,
    })?;
    if bytes.len() as u64 > LONGEST_DOCUMENT {
        return Err(WireError::TooLong { from });
    }
    if bytes.is_empty() {
        return Err(WireError::Silent { from });
    }
    serde_json::from_slice(&bytes).map_err(|error| WireError::Garbled { from, reason: error.to_string() })
}

/// Paths of any bytes in JSON: a text where they are UTF-8, else a list of numbers. For `#[serde(with)]`.
pub mod path {
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    use std::path::{Path, PathBuf};

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Form {
        Text(String),
        Bytes(Vec<u8>),
    }

    /// Writes a path.
    ///
    /// # Errors
    /// Only what the serializer itself reports.
    pub fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        match path.to_str() {
            Some(text) => serializer.serialize_str(text),
            None => path.as_os_str().as_bytes().serialize(serializer),
        }
    }

    /// Reads a path.
    ///
    /// # Errors
    /// The value is neither a text nor a list of byte values, or holds a zero byte, which no path can.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        let bytes = match Form::deserialize(deserializer)? {
            Form::Text(text) => text.into_bytes(),
            Form::Bytes(bytes) => bytes,
        };
        if bytes.contains(&0) {
            return Err(serde::de::Error::custom("a path cannot hold a zero byte"));
        }
        Ok(PathBuf::from(OsString::from_vec(bytes)))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail")]
mod tests {
    use super::*;
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;
    use std::path::PathBuf;

    #[derive(Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Note {
        #[serde(with = "path")]
        place: PathBuf,
    }

    #[test]
    fn paths_of_any_bytes_survive() {
        for bytes in [&b"/tmp/x"[..], b"/tmp/\xff\xfe", b"/tmp/\xc3\xa9", b""] {
            let note = Note { place: PathBuf::from(OsString::from_vec(bytes.to_vec())) };
            let mut pipe = Vec::new();
            send(&mut pipe, "server", &note).unwrap();
            assert_eq!(receive::<Note>(&mut &pipe[..], "caller").unwrap(), note);
        }
    }

    #[test]
    fn whatever_else_comes_is_an_error_that_says_so() {
        let table: [(&[u8], &str); 6] = [
            (b"", "the caller said nothing before it closed the pipe"),
            (b"{\"place\":\"/t", "cannot be understood"),
            (b"{}", "missing field `place`"),
            (b"{\"place\":\"a\",\"more\":1}", "unknown field `more`"),
            (b"{\"place\":\"a\\u0000b\"}", "zero byte"),
            (b"\xff\x00\x01", "cannot be understood"),
        ];
        for (bytes, expected) in table {
            let error = receive::<Note>(&mut &bytes[..], "caller").unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let error = receive::<Note>(&mut io::repeat(b' '), "caller").unwrap_err();
        assert!(matches!(error, WireError::TooLong { .. }), "{error}");
    }
}
