//! The rules for a secret in a file.

/// An attacker can guess a secret that is shorter than this. The number is the length in bytes of the hash that uses
/// the secret (RFC 7518 §3.2).
pub const SHORT_SECRET: usize = 32;

/// The secret in the content of a file. Editors and shells add a line end at the end of a file, which is not part of
/// the secret.
pub fn secret(content: &[u8]) -> &[u8] {
    let secret = content.strip_suffix(b"\n").unwrap_or(content);
    secret.strip_suffix(b"\r").unwrap_or(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_end_is_not_part_of_the_secret() {
        for (content, expected) in [
            ("secret", "secret"),
            ("secret\n", "secret"),
            ("secret\r\n", "secret"),
            ("secret\r", "secret"),
            ("secret\n\n", "secret\n"),
            (" secret ", " secret "),
            ("\n", ""),
            ("", ""),
        ] {
            assert_eq!(secret(content.as_bytes()), expected.as_bytes(), "{content:?}");
        }
    }
}
