//! Figures for people.

use std::time::Duration;

/// Bytes with three figures: `4.20 GiB`, `17.3 KiB`, `512 B`.
pub fn bytes(bytes: f64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes.abs() < 1000.0 {
        return format!("{bytes:.0} B");
    }
    let mut value = bytes / 1024.0;
    let mut unit = 0;
    while value.abs() >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let decimals = if value.abs() < 10.0 { 2 } else { usize::from(value.abs() < 100.0) };
    format!("{value:.decimals$} {}", UNITS[unit])
}

/// KiB as [`bytes`].
pub fn kib(kib: u64) -> String {
    bytes(kib as f64 * 1024.0)
}

/// GiB as [`bytes`].
pub fn gib(gib: f64) -> String {
    bytes(gib * f64::from(1 << 30))
}

/// Bytes a second.
pub fn rate(bytes_per_second: u64) -> String {
    format!("{}/s", bytes(bytes_per_second as f64))
}

/// A time span in its two largest units: `3d 4h`, `12m 5s`.
pub fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, _, _) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

/// `part` of `whole` in percent; 0 where there is no whole.
pub fn percent(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { (part / whole * 100.0).clamp(0.0, 100.0) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        for (value, text) in [
            (0.0, "0 B"),
            (999.0, "999 B"),
            (1000.0, "0.98 KiB"),
            (17_700.0, "17.3 KiB"),
            (1_023_000.0, "999 KiB"),
            (4_509_715_660.0, "4.20 GiB"),
            (f64::MAX, "far"),
        ] {
            let shown = bytes(value);
            assert!(shown == text || (text == "far" && shown.ends_with("EiB")), "{value}: {shown}");
        }
    }

    #[test]
    fn spans_name_two_units() {
        for (seconds, text) in [(5, "5s"), (725, "12m 5s"), (7_260, "2h 1m"), (273_600, "3d 4h")] {
            assert_eq!(span(Duration::from_secs(seconds)), text);
        }
    }
}
