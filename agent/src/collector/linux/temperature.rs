//! The processor's temperature: hwmon sensors, else thermal zones.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use infini_protocol::Finite;

use super::file::KeptFile;
use super::roots::Roots;

/// Drivers (`/sys/class/hwmon/*/name`) that measure a processor.
const CPU_DRIVERS: [&str; 7] =
    ["coretemp", "k10temp", "k8temp", "zenpower", "via_cputemp", "cpu_thermal", "cpu-thermal"];

/// Labels of the sensor that stands for the whole processor; drivers also have one for each core.
const WHOLE_PROCESSOR: [&str; 3] = ["Package id", "Tctl", "Tdie"];

/// How long nothing is looked for after nothing was found: drivers may be loaded late, but most virtual machines never have one.
const LOOK_AGAIN: Duration = Duration::from_secs(10 * 60);

/// Reads the processor's sensors, which it looks for once.
#[derive(Debug)]
pub struct Thermometer {
    sys: PathBuf,
    sensors: Vec<KeptFile>,
    looked: Option<Instant>,
}

impl Thermometer {
    pub fn new(roots: &Roots) -> Self {
        Self { sys: roots.sys.clone(), sensors: Vec::new(), looked: None }
    }

    /// °C of the hottest processor; `None` where no sensor tells.
    pub fn read(&mut self, now: Instant, buffer: &mut Vec<u8>) -> Option<Finite> {
        if self.sensors.is_empty() && self.looked.is_none_or(|at| now.saturating_duration_since(at) >= LOOK_AGAIN) {
            self.sensors = discover(&self.sys);
            self.looked = Some(now);
        }
        let readings = self.sensors.iter_mut().map(|sensor| sensor.read_record(buffer).ok().and_then(millidegrees));
        // A sensor that fails has lost its driver, which may come back under another number.
        let hottest = readings.collect::<Option<Vec<i64>>>().map(|all| all.into_iter().max());
        if hottest.is_none() {
            self.sensors.clear();
        }
        Finite::new(hottest?? as f64 / 1000.0)
    }
}

/// What a sensor tells. Broken ones are known to tell absurd figures.
fn millidegrees(text: &[u8]) -> Option<i64> {
    let value: i64 = std::str::from_utf8(text.trim_ascii()).ok()?.parse().ok()?;
    (-50_000..=150_000).contains(&value).then_some(value)
}

fn discover(sys: &Path) -> Vec<KeptFile> {
    let chips = children(&sys.join("class/hwmon"));
    let is_cpu = |chip: &PathBuf| CPU_DRIVERS.contains(&word(&chip.join("name")).as_str());
    let sensors: Vec<PathBuf> = chips.into_iter().filter(is_cpu).filter_map(|chip| sensor_of(&chip)).collect();
    if !sensors.is_empty() {
        return sensors.into_iter().map(KeptFile::new).collect();
    }
    let zones = children(&sys.join("class/thermal")).into_iter().filter(|zone| {
        let kind = word(&zone.join("type"));
        kind == "x86_pkg_temp" || kind.starts_with("cpu")
    });
    zones.map(|zone| zone.join("temp")).filter(|temp| temp.exists()).map(KeptFile::new).collect()
}

/// The sensor of the whole processor, else the chip's first.
fn sensor_of(chip: &Path) -> Option<PathBuf> {
    let inputs = children(chip).into_iter().filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("temp") && name.ends_with("_input")
    });
    let inputs: Vec<PathBuf> = inputs.collect();
    let is_whole = |input: &&PathBuf| {
        let label = word(Path::new(&input.to_string_lossy().replace("_input", "_label")));
        WHOLE_PROCESSOR.iter().any(|whole| label.starts_with(whole))
    };
    inputs.iter().find(is_whole).or(inputs.first()).cloned()
}

/// The entries of a directory by name; none where it is not there.
fn children(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

fn word(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(root: &Path, files: &[(&str, &str)]) {
        for (path, text) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    fn thermometer(sys: &Path) -> Thermometer {
        Thermometer { sys: sys.to_owned(), sensors: Vec::new(), looked: None }
    }

    fn degrees(thermometer: &mut Thermometer, now: Instant) -> Option<f64> {
        thermometer.read(now, &mut Vec::new()).map(Finite::get)
    }

    #[test]
    fn the_hottest_of_several_packages_counts() {
        let sys = tempfile::tempdir().unwrap();
        put(
            sys.path(),
            &[
                ("class/hwmon/hwmon0/name", "nvme\n"),
                ("class/hwmon/hwmon0/temp1_input", "90000\n"),
                ("class/hwmon/hwmon1/name", "coretemp\n"),
                ("class/hwmon/hwmon1/temp1_input", "70000\n"),
                ("class/hwmon/hwmon1/temp1_label", "Core 0\n"),
                ("class/hwmon/hwmon1/temp2_input", "51500\n"),
                ("class/hwmon/hwmon1/temp2_label", "Package id 0\n"),
                ("class/hwmon/hwmon2/name", "coretemp\n"),
                ("class/hwmon/hwmon2/temp1_input", "48000\n"),
                ("class/hwmon/hwmon2/temp1_label", "Package id 1\n"),
                ("class/thermal/thermal_zone0/type", "x86_pkg_temp\n"),
                ("class/thermal/thermal_zone0/temp", "99000\n"),
            ],
        );
        assert_eq!(degrees(&mut thermometer(sys.path()), Instant::now()), Some(51.5));
    }

    #[test]
    fn zones_serve_where_no_chip_does() {
        let sys = tempfile::tempdir().unwrap();
        put(
            sys.path(),
            &[
                ("class/thermal/thermal_zone0/type", "acpitz\n"),
                ("class/thermal/thermal_zone0/temp", "27800\n"),
                ("class/thermal/thermal_zone1/type", "cpu-thermal\n"),
                ("class/thermal/thermal_zone1/temp", "-1000\n"),
            ],
        );
        assert_eq!(degrees(&mut thermometer(sys.path()), Instant::now()), Some(-1.0));
    }

    #[test]
    fn a_sensor_that_comes_late_or_moves_is_found() {
        let sys = tempfile::tempdir().unwrap();
        let mut thermometer = thermometer(sys.path());
        let start = Instant::now();
        assert_eq!(degrees(&mut thermometer, start), None);
        put(sys.path(), &[("class/hwmon/hwmon0/name", "k10temp\n"), ("class/hwmon/hwmon0/temp1_input", "40000\n")]);
        assert_eq!(degrees(&mut thermometer, start + LOOK_AGAIN / 2), None);
        assert_eq!(degrees(&mut thermometer, start + LOOK_AGAIN), Some(40.0));
        put(sys.path(), &[("class/hwmon/hwmon0/temp1_input", "999000\n")]);
        assert_eq!(degrees(&mut thermometer, start + LOOK_AGAIN), None);
        put(sys.path(), &[("class/hwmon/hwmon0/temp1_input", "41000\n")]);
        assert_eq!(degrees(&mut thermometer, start + 2 * LOOK_AGAIN), Some(41.0));
    }
}
