//! Durations as Istio's fields take them: `10s`, `1h30m`, `1.5s`, `100ms`.

/// A duration in milliseconds, as a fraction; `None` when the text is none.
pub fn milliseconds(text: &str) -> Option<f64> {
    let (sign, mut rest) = match text.as_bytes().first()? {
        b'-' => (-1.0, &text[1..]),
        b'+' => (1.0, &text[1..]),
        _ => (1.0, text),
    };
    if rest == "0" {
        return Some(0.0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|character: char| !character.is_ascii_digit() && character != '.')?;
        let (number, unit_and_rest) = rest.split_at(digits);
        let letters = unit_and_rest.find(|character: char| character.is_ascii_digit() || character == '.');
        let (unit, next) = unit_and_rest.split_at(letters.unwrap_or(unit_and_rest.len()));
        total += number.parse::<f64>().ok()? * unit_milliseconds(unit)?;
        rest = next;
    }
    Some(sign * total)
}

fn unit_milliseconds(unit: &str) -> Option<f64> {
    match unit {
        "ns" => Some(1e-6),
        "us" | "µs" | "μs" => Some(1e-3),
        "ms" => Some(1.0),
        "s" => Some(1e3),
        "m" => Some(6e4),
        "h" => Some(3.6e6),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::milliseconds;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        let cases = [
            ("10s", Some(10_000.0)),
            ("1h30m", Some(5_400_000.0)),
            ("1.5s", Some(1500.0)),
            ("100ms", Some(100.0)),
            ("0", Some(0.0)),
            ("-1s", Some(-1000.0)),
            ("10", None),
            ("s", None),
            ("10 s", None),
            ("1d", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(milliseconds(text), expected, "{text}");
        }
    }
}
