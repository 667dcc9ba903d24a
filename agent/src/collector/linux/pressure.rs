//! Pressure stall information: `/proc/pressure`.

use std::io::ErrorKind;

use infini_protocol::Percent;
use infini_protocol::metrics::{Pressure, PressureMetrics};

use super::file::KeptFile;
use super::roots::Roots;
use super::scan::{fields, hundredths, lines};
use crate::collector::CollectFailure;

/// Reads pressure.
#[derive(Debug)]
pub struct PressureReader {
    cpu: KeptFile,
    memory: KeptFile,
    io: KeptFile,
}

impl PressureReader {
    pub fn new(roots: &Roots) -> Self {
        let file = |name| KeptFile::new(roots.proc.join("pressure").join(name));
        Self { cpu: file("cpu"), memory: file("memory"), io: file("io") }
    }

    /// # Errors
    /// Unsupported where the kernel was built or started without it.
    pub fn read(&mut self, buffer: &mut Vec<u8>) -> Result<PressureMetrics, CollectFailure> {
        let cpu = read_one(&mut self.cpu, buffer)?;
        let memory = read_one(&mut self.memory, buffer)?;
        let io = read_one(&mut self.io, buffer)?;
        Ok(PressureMetrics { cpu: Some(cpu), memory: Some(memory), io: Some(io) })
    }
}

fn read_one(file: &mut KeptFile, buffer: &mut Vec<u8>) -> Result<Pressure, CollectFailure> {
    let text = file.read_record(buffer).map_err(|error| match error.kind() {
        // With `psi=0` the files are there, but opening or reading them is refused as not supported.
        ErrorKind::NotFound | ErrorKind::Unsupported => CollectFailure::Unsupported("pressure stall information"),
        _ => CollectFailure::io(file.path(), error),
    })?;
    parse(text).ok_or_else(|| CollectFailure::parse(file.path(), "there is no some line with avg10"))
}

fn parse(text: &[u8]) -> Option<Pressure> {
    let mut some = None;
    let mut full = None;
    for line in lines(text) {
        let mut fields = fields(line);
        let target = match fields.next() {
            Some(b"some") => &mut some,
            Some(b"full") => &mut full,
            _ => continue,
        };
        *target = fields.find_map(|field| hundredths(field.strip_prefix(b"avg10=")?));
    }
    let share = |value| Percent::of(value, 100 * 100);
    Some(Pressure { some_avg10: share(some?)?, full_avg10: full.and_then(share) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_lines_are_read() {
        let text = b"some avg10=12.34 avg60=1.00 avg300=0.10 total=157622151\n\
            full avg10=5.06 avg60=0.00 avg300=0.00 total=0\n";
        let pressure = parse(text).unwrap();
        assert_eq!(pressure.some_avg10.get(), 12.34);
        assert_eq!(pressure.full_avg10.map(Percent::get), Some(5.06));
    }

    #[test]
    fn an_old_kernel_has_no_full_line_for_processors() {
        let pressure = parse(b"some avg10=0.50 avg60=0.00 avg300=0.00 total=1\n").unwrap();
        assert_eq!((pressure.some_avg10.get(), pressure.full_avg10), (0.5, None));
        assert_eq!(parse(b"some avg60=0.00\n"), None);
        assert_eq!(parse(b""), None);
    }
}
