// Is a text a well-formed value? Needs no database: mistyped ones are refused.
// With crate sha2.
use sha2::{Digest, Sha256};
use std::io::BufRead;

const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

fn is_wellformed(key: &str) -> bool {
    let (covered, suffix) = key.split_once('/').unwrap_or_default();
    let (prefix, secret) = covered.split_once('.').unwrap_or_default();
    let shape = (1..=8).contains(&prefix.len())
        && prefix.starts_with(|c: char| c.is_ascii_lowercase())
        && prefix.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        && secret.len() == 43
        && secret.bytes().all(|b| b.is_ascii_alphanumeric());
    let digest = Sha256::digest(covered.as_bytes());
    let bits = digest[27..].iter().fold(0u64, |bits, b| bits << 8 | u64::from(*b));
    let right = (0..7).rev().map(|i| DIGITS[(bits >> (5 * i) & 31) as usize]);
    shape && right.eq(suffix.bytes())
}

fn main() {
    for line in std::io::stdin().lock().lines() {
        println!("{}", if is_wellformed(&line.unwrap()) { "yes" } else { "no" });
    }
}
