use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A finite number, kept to three decimals: `_gb` floats, °C, the CPU share of a process.
///
/// JSON has no NaN and no infinity; this type cannot hold one, so a measurement that came to nothing must be absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub struct Finite(f64);

impl Finite {
    /// The number rounded to three decimals; `None` where it is not finite.
    #[must_use]
    pub fn new(value: f64) -> Option<Self> {
        // Beyond 2^53 there are no decimals to round and the product could overflow.
        let rounded = if value.abs() < 9.0e12 { (value * 1000.0).round() / 1000.0 } else { value };
        rounded.is_finite().then_some(Self(rounded))
    }

    /// Bytes as GiB.
    #[must_use]
    pub fn gib(bytes: u64) -> Self {
        Self::new(bytes as f64 / f64::from(1 << 30)).unwrap_or_default()
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl Serialize for Finite {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0)
    }
}

impl<'de> Deserialize<'de> for Finite {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = f64::deserialize(deserializer)?;
        Self::new(value).ok_or_else(|| serde::de::Error::custom("the number is not finite"))
    }
}

/// A share of a whole, 0 to 100, kept to two decimals.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub struct Percent(f64);

impl Percent {
    /// Brings the number into 0..=100; `None` where it is not a number at all.
    #[must_use]
    pub fn new(value: f64) -> Option<Self> {
        (!value.is_nan()).then(|| Self((value.clamp(0.0, 100.0) * 100.0).round() / 100.0))
    }

    /// `part` of `whole`; `None` where the whole is zero.
    #[must_use]
    pub fn of(part: u64, whole: u64) -> Option<Self> {
        Self::new(part as f64 * 100.0 / whole as f64).filter(|_| whole > 0)
    }

    /// The number, 0 to 100.
    #[must_use]
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl Serialize for Percent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0)
    }
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = f64::deserialize(deserializer)?;
        Self::new(value).ok_or_else(|| serde::de::Error::custom("the percentage is not a number"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_finite_is_absent() {
        assert_eq!(Finite::new(f64::NAN), None);
        assert_eq!(Finite::new(f64::INFINITY), None);
        assert_eq!(Finite::new(f64::MAX).map(Finite::get), Some(f64::MAX));
        assert_eq!(Percent::new(f64::NAN), None);
    }

    #[test]
    fn numbers_are_short_on_the_wire() {
        assert_eq!(Finite::new(1.0 / 3.0).map(Finite::get), Some(0.333));
        assert_eq!(Percent::of(1, 3).map(Percent::get), Some(33.33));
        assert_eq!(Finite::gib(3 << 29).get(), 1.5);
    }

    #[test]
    fn a_percentage_stays_within_its_range() {
        assert_eq!(Percent::new(-3.0).map(Percent::get), Some(0.0));
        assert_eq!(Percent::new(f64::INFINITY).map(Percent::get), Some(100.0));
        assert_eq!(Percent::of(7, 0), None);
    }
}
