//! Comparing what the agent says with what is so.

use anyhow::ensure;

/// Checks that `measured` is within `percent` of `expected` and gives the deviation in percent.
pub fn within_percent(what: &str, measured: f64, expected: f64, percent: f64) -> anyhow::Result<f64> {
    ensure!(expected != 0.0, "{what}: nothing to compare {measured} with");
    let deviation = (measured - expected) * 100.0 / expected;
    ensure!(
        deviation.abs() <= percent,
        "{what}: {measured:.0} is {deviation:+.2} % from {expected:.0}, more than {percent} %"
    );
    Ok(deviation)
}

/// Checks that `measured` is at most `distance` away from `expected`.
pub fn within(what: &str, measured: f64, expected: f64, distance: f64) -> anyhow::Result<()> {
    let off = (measured - expected).abs();
    ensure!(off <= distance, "{what}: {measured} is {off} from {expected}, more than {distance}");
    Ok(())
}

/// Checks that two things are the same.
pub fn same<T: PartialEq + std::fmt::Debug>(what: &str, measured: T, expected: T) -> anyhow::Result<()> {
    ensure!(measured == expected, "{what}: {measured:?} where {expected:?} is right");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_edges_of_a_tolerance_belong_to_it() {
        assert_eq!(within_percent("x", 105.0, 100.0, 5.0).unwrap(), 5.0);
        assert_eq!(within_percent("x", 95.0, 100.0, 5.0).unwrap(), -5.0);
        within("x", 3.5, 3.0, 0.5).unwrap();
    }

    #[test]
    fn beyond_the_edges_the_error_says_by_how_much() {
        let error = within_percent("bytes", 94.0, 100.0, 5.0).unwrap_err().to_string();
        assert_eq!(error, "bytes: 94 is -6.00 % from 100, more than 5 %");
        assert!(within("x", 3.6, 3.0, 0.5).is_err());
        assert!(same("name", "a", "b").unwrap_err().to_string().contains("\"b\" is right"));
    }

    #[test]
    fn what_cannot_be_compared_is_no_agreement() {
        assert!(within_percent("x", 0.0, 0.0, 5.0).is_err());
        assert!(within_percent("x", f64::NAN, 100.0, 5.0).is_err());
        assert!(within("x", f64::NAN, 1.0, 1.0).is_err());
    }
}
