//! Sizes in the form in which one types them: `32M`, `1G`.

/// The number of bytes in `32M` or `1GiB`, or nothing if the text has another form. A number that is too large becomes
/// the largest one, so that the caller's limit refuses it.
#[must_use]
pub fn bytes(text: &str) -> Option<u64> {
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(split);
    let shift = match unit.to_ascii_uppercase().trim_end_matches('B').trim_end_matches('I') {
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return None,
    };
    if number.is_empty() {
        return None;
    }
    let number: u64 = number.parse().unwrap_or(u64::MAX);
    Some(number.saturating_mul(1 << shift))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        assert_eq!(["3K", "3m", "3GB", "3TiB"].map(bytes), [10, 20, 30, 40].map(|shift| Some(3 << shift)));
        assert_eq!(["99999999999999999999K", "99999999999T"].map(bytes), [Some(u64::MAX); 2]);
        assert_eq!(["", "3", "M", "-3M", "3X", "3M ", "3 M", "0x3M"].map(bytes), [None; 8]);
    }
}
