//! Load averages and uptime: `/proc/loadavg`, `/proc/uptime`.

use infini_protocol::Finite;
use infini_protocol::metrics::LoadAverage;

use super::file::KeptFile;
use super::roots::Roots;
use super::scan::{Fields, fields, hundredths};
use crate::collector::CollectFailure;

/// Reads load averages and uptime.
#[derive(Debug)]
pub struct LoadReader {
    loadavg: KeptFile,
    uptime: KeptFile,
}

impl LoadReader {
    pub fn new(roots: &Roots) -> Self {
        Self { loadavg: KeptFile::new(roots.proc.join("loadavg")), uptime: KeptFile::new(roots.proc.join("uptime")) }
    }

    /// # Errors
    /// Where `/proc/loadavg` cannot be read.
    pub fn load(&mut self, buffer: &mut Vec<u8>) -> Result<LoadAverage, CollectFailure> {
        read(&mut self.loadavg, buffer, parse_load)
    }

    /// Whole seconds since boot.
    ///
    /// # Errors
    /// Where `/proc/uptime` cannot be read.
    pub fn uptime(&mut self, buffer: &mut Vec<u8>) -> Result<u64, CollectFailure> {
        read(&mut self.uptime, buffer, parse_uptime)
    }
}

fn read<T>(
    file: &mut KeptFile,
    buffer: &mut Vec<u8>,
    parse: impl Fn(Fields<'_>) -> Option<T>,
) -> Result<T, CollectFailure> {
    let text = file.read_record(buffer).map_err(|error| CollectFailure::io(file.path(), error))?;
    parse(fields(text)).ok_or_else(|| CollectFailure::parse(file.path(), "it does not begin with its numbers"))
}

fn parse_load(mut fields: Fields<'_>) -> Option<LoadAverage> {
    let mut next = || Finite::new(hundredths(fields.next()?)? as f64 / 100.0);
    Some(LoadAverage { load_1min: next()?, load_5min: next()?, load_15min: next()? })
}

fn parse_uptime(mut fields: Fields<'_>) -> Option<u64> {
    Some(hundredths(fields.next()?)? / 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_has_three_averages() {
        let load = parse_load(fields(b"0.52 12.34 100.00 2/345 6789\n")).unwrap();
        assert_eq!((load.load_1min.get(), load.load_5min.get(), load.load_15min.get()), (0.52, 12.34, 100.0));
        assert_eq!(parse_load(fields(b"0.52 x")), None);
    }

    #[test]
    fn uptime_is_whole_seconds() {
        assert_eq!(parse_uptime(fields(b"350735.97 234388.90\n")), Some(350_735));
        assert_eq!(parse_uptime(fields(b"\n")), None);
    }
}
