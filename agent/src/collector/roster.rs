//! Things that come and go between samples, by name: disks, interfaces.

use infini_protocol::Text;

/// What is known about each thing since it appeared, in the order in which the system lists them.
///
/// The system lists the same things in the same order nearly always, so each is found at once and nothing is allocated. Begin with
/// [`start`](Self::start), take each thing with [`meet`](Self::meet), end with [`finish`](Self::finish), which forgets
/// what was not met: a thing that comes back later is a new one.
#[derive(Debug)]
pub struct Roster<T> {
    entries: Vec<Entry<T>>,
    met: usize,
}

#[derive(Debug)]
struct Entry<T> {
    key: Box<[u8]>,
    name: Text,
    value: T,
}

impl<T> Default for Roster<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), met: 0 }
    }
}

impl<T> Roster<T> {
    /// Begins a round.
    pub fn start(&mut self) {
        self.met = 0;
    }

    /// The thing of this name, which is made by `appear` where it is new.
    pub fn meet(&mut self, key: &[u8], appear: impl FnOnce() -> T) -> (&Text, &mut T) {
        let rest = &mut self.entries[self.met..];
        match rest.iter().position(|entry| *entry.key == *key) {
            Some(0) => {}
            Some(further) => rest[..=further].rotate_right(1),
            None => {
                let entry = Entry { key: key.into(), name: String::from_utf8_lossy(key).into(), value: appear() };
                self.entries.insert(self.met, entry);
            }
        }
        let entry = &mut self.entries[self.met];
        self.met += 1;
        (&entry.name, &mut entry.value)
    }

    /// How many things there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The things in their order.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().map(|entry| &entry.value)
    }

    /// The things in their order.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.entries.iter_mut().map(|entry| &mut entry.value)
    }

    /// Ends a round.
    pub fn finish(&mut self) {
        self.entries.truncate(self.met);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(roster: &mut Roster<u32>, names: &[&str], number: u32) -> Vec<(String, u32)> {
        roster.start();
        let met = names.iter().map(|name| {
            let (name, born) = roster.meet(name.as_bytes(), || number);
            (name.to_string(), *born)
        });
        let met = met.collect();
        roster.finish();
        met
    }

    #[test]
    fn what_stays_is_known_and_what_left_is_forgotten() {
        let mut roster = Roster::default();
        round(&mut roster, &["a", "b", "c"], 1);
        let second = round(&mut roster, &["b", "new", "a"], 2);
        assert_eq!(second, [("b".to_owned(), 1), ("new".to_owned(), 2), ("a".to_owned(), 1)]);
        let third = round(&mut roster, &["c", "a", "b"], 3);
        assert_eq!(third, [("c".to_owned(), 3), ("a".to_owned(), 1), ("b".to_owned(), 1)]);
    }
}
