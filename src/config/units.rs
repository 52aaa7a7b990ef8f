//! Sizes and durations as people write them.
//!
//! `bytesize` and `humantime` do the reading; what they let pass too easily is refused here first.

use bytesize::ByteSize;
use std::time::Duration;

pub(super) const KIB: u64 = 1 << 10;
pub(super) const MIB: u64 = 1 << 20;
pub(super) const GIB: u64 = 1 << 30;
pub(super) const TIB: u64 = 1 << 40;

pub(super) const HOUR: Duration = Duration::from_secs(3600);
pub(super) const DAY: Duration = Duration::from_secs(24 * 3600);

/// `16MiB`, `1 GiB`, `1.5GiB`, `5MB`, or a plain number of bytes. The error is the remedy.
pub(super) fn parse_size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let number_len = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = (&text[..number_len], text[number_len..].trim_start());
    if !is_decimal(number) {
        return Err("write a number and a unit, such as 16MiB".to_owned());
    }
    // `bytesize` takes `16M` for 16,000,000; other tools take it for 16 MiB. Guessing wrong here
    // is off by 5 % and passes unnoticed.
    if unit.len() == 1 && !unit.eq_ignore_ascii_case("b") {
        return Err(format!(
            "write {number}{0}iB (times 1024) or {number}{0}B (times 1000)",
            unit.to_uppercase()
        ));
    }
    let one: ByteSize = format!("1{unit}").parse().map_err(|_| {
        "write a unit of B, KiB, MiB, GiB, TiB, KB, MB, GB or TB after the number".to_owned()
    })?;
    let too_large = || "write a smaller number".to_owned();
    let size: ByteSize = match format!("{number}{unit}").parse() {
        Ok(size) => size,
        Err(_) if number.contains('.') => {
            return Err("write a whole number of bytes, or a unit after it".to_owned());
        }
        Err(_) => return Err(too_large()),
    };
    // Too large a value is not refused by `bytesize` but cut to this.
    if size.as_u64() == u64::MAX {
        return Err(too_large());
    }
    // Nor is a fraction of a byte: it is dropped, and `0.0001KiB` becomes 0, which may mean "off".
    let exact = number
        .parse::<f64>()
        .is_ok_and(|n| (n * one.as_u64() as f64).fract() == 0.0);
    if number.contains('.') && !exact {
        return Err("write a whole number of bytes, if need be in a smaller unit".to_owned());
    }
    Ok(size.as_u64())
}

/// Digits, or digits on both sides of one point.
fn is_decimal(number: &str) -> bool {
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    match number.split_once('.') {
        Some((whole, fraction)) => digits(whole) && digits(fraction),
        None => digits(number),
    }
}

/// `30s`, `5m`, `1h 30m`, `1.5h`, `24h`, `7d`. The error is the remedy.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("add a unit, such as {text}s or {text}m"));
    }
    let mut rest = text;
    while !rest.is_empty() {
        let number_len = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let number = &rest[..number_len];
        // `humantime` reads `1 0s` as ten seconds, and panics where seconds overflow by a
        // carry from their fraction: numbers that long are never meant.
        if !is_decimal(number) || number.len() > 12 {
            return Err("write a number and a unit, such as 30s, 5m or 24h".to_owned());
        }
        rest = rest[number_len..].trim_start();
        let unit_len = rest
            .find(|c: char| !c.is_alphabetic())
            .unwrap_or(rest.len());
        let unit = &rest[..unit_len];
        // To `humantime`, `5M` is five months of 30.44 days.
        let known = matches!(
            unit,
            "ms" | "msec"
                | "millis"
                | "s"
                | "sec"
                | "secs"
                | "second"
                | "seconds"
                | "m"
                | "min"
                | "mins"
                | "minute"
                | "minutes"
                | "h"
                | "hr"
                | "hrs"
                | "hour"
                | "hours"
                | "d"
                | "day"
                | "days"
                | "w"
                | "wk"
                | "wks"
                | "week"
                | "weeks"
        );
        if !known {
            return Err(format!(
                "write a unit of ms, s, m, h, d or w after {number}, in lower case"
            ));
        }
        rest = rest[unit_len..].trim_start();
    }
    humantime::parse_duration(text)
        .map_err(|_| "write a number and a unit, such as 30s, 5m or 24h".to_owned())
}

/// The size in the largest unit that needs no fraction; `parse_size` reads it back unchanged.
pub(crate) fn format_size(bytes: u64) -> String {
    let units = [(TIB, "TiB"), (GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")];
    for (factor, unit) in units {
        if bytes > 0 && bytes.is_multiple_of(factor) {
            return format!("{}{unit}", bytes / factor);
        }
    }
    bytes.to_string()
}

/// The duration in the largest unit, up to hours, that needs no fraction; `parse_duration` reads
/// it back unchanged.
pub(super) fn format_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if duration.subsec_nanos() != 0 {
        return format!("{}ms", duration.as_millis());
    }
    for (factor, unit) in [(3600, "h"), (60, "m")] {
        if seconds > 0 && seconds.is_multiple_of(factor) {
            return format!("{}{unit}", seconds / factor);
        }
    }
    format!("{seconds}s")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let cases = [
            ("0", 0),
            ("1", 1),
            ("16777216", 16 * MIB),
            ("16MiB", 16 * MIB),
            (" 16 MiB ", 16 * MIB),
            ("16Mi", 16 * MIB),
            ("16mib", 16 * MIB),
            ("5MB", 5_000_000),
            ("1 GiB", GIB),
            ("1.5GiB", 3 * GIB / 2),
            ("0.5KiB", 512),
            ("7B", 7),
            ("5TiB", 5 * TIB),
            ("9007199254740993B", 9_007_199_254_740_993),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_size(text), Ok(expected), "of {text:?}");
        }
    }

    #[test]
    fn sizes_refused() {
        let cases = [
            ("", "16MiB"),
            ("-1", "16MiB"),
            ("-5MiB", "16MiB"),
            ("+5MiB", "16MiB"),
            ("MiB", "16MiB"),
            (".5MiB", "16MiB"),
            ("5.MiB", "16MiB"),
            ("1.2.3MiB", "16MiB"),
            ("1.5", "whole number of bytes"),
            ("0.1KiB", "whole number of bytes"),
            ("0.0001KiB", "whole number of bytes"),
            ("16M", "write 16MiB (times 1024) or 16MB (times 1000)"),
            ("16k", "write 16KiB"),
            ("16Mbit", "a unit of"),
            ("16 apples", "a unit of"),
            ("16ä", "a unit of"),
            ("1e6", "a unit of"),
            ("1_000", "a unit of"),
            ("1,000", "a unit of"),
            ("0x10", "a unit of"),
            ("16MiB/s", "a unit of"),
            ("16MiB 1KiB", "a unit of"),
            ("99999999TiB", "smaller"),
            ("18446744073709551616", "smaller"),
            ("99999999999999999999999", "smaller"),
        ];
        for (text, expected) in cases {
            let remedy = parse_size(text).expect_err(text);
            assert!(remedy.contains(expected), "of {text:?}: {remedy}");
        }
    }

    #[test]
    fn durations() {
        let cases = [
            ("0s", 0),
            ("30s", 30_000),
            ("30 s", 30_000),
            (" 30sec ", 30_000),
            ("5m", 300_000),
            ("24h", 86_400_000),
            ("7d", 7 * 86_400_000),
            ("2w", 14 * 86_400_000),
            ("1h30m", 5_400_000),
            ("1h 30m", 5_400_000),
            ("1.5h", 5_400_000),
            ("250ms", 250),
        ];
        for (text, expected) in cases {
            let expected = Duration::from_millis(expected);
            assert_eq!(parse_duration(text), Ok(expected), "of {text:?}");
        }
    }

    #[test]
    fn durations_refused() {
        let cases = [
            ("", "such as 30s"),
            ("0", "0s"),
            ("30", "add a unit, such as 30s"),
            ("-30s", "such as 30s"),
            ("+30s", "such as 30s"),
            ("s", "such as 30s"),
            (".5s", "such as 30s"),
            ("1.s", "such as 30s"),
            ("1 0s", "a unit of"),
            ("1h 5", "a unit of"),
            ("5M", "a unit of"),
            ("5 months", "a unit of"),
            ("1y", "a unit of"),
            ("10ns", "a unit of"),
            ("10µs", "a unit of"),
            ("30S", "a unit of"),
            ("30 seconds ago", "such as 30s"),
            ("30s,", "such as 30s"),
            ("PT30S", "such as 30s"),
            ("18446744073709551615s 1000ms", "such as 30s"),
            ("9999999999999999w", "such as 30s"),
        ];
        for (text, expected) in cases {
            let remedy = match parse_duration(text) {
                Ok(duration) => panic!("{text:?} was taken for {duration:?}"),
                Err(remedy) => remedy,
            };
            assert!(remedy.contains(expected), "of {text:?}: {remedy}");
        }
    }

    #[test]
    fn what_is_printed_reads_back() {
        for (bytes, text) in [(0, "0"), (1000, "1000"), (KIB, "1KiB"), (5 * TIB, "5TiB")] {
            assert_eq!(format_size(bytes), text);
            assert_eq!(parse_size(text), Ok(bytes));
        }
        let cases = [
            (1500, "1500ms"),
            (90_000, "90s"),
            (300_000, "5m"),
            (86_400_000, "24h"),
        ];
        for (millis, text) in cases {
            let duration = Duration::from_millis(millis);
            assert_eq!(format_duration(duration), text);
            assert_eq!(parse_duration(text), Ok(duration));
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_them_panic(text in "[0-9. a-zA-Zµ+-]{0,30}", number in "[0-9]{1,25}") {
            for text in [text, number.clone() + "s", number.clone() + "s 1000ms", number + "w"] {
                let _ = (parse_size(&text), parse_duration(&text));
            }
        }

        #[test]
        fn every_size_and_duration_reads_back(bytes in 0..u64::MAX, millis in 0..1u64 << 39) {
            proptest::prop_assert_eq!(parse_size(&format_size(bytes)), Ok(bytes));
            let duration = Duration::from_millis(millis);
            proptest::prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }
    }
}
