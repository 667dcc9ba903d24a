//! Which mounts a path still leads to. A machine can have thousands (containers, bind mounts), so nothing here compares each with each.

use std::collections::{HashMap, HashSet};
use std::path::Path;

/// A mount's place in the tree, in the words of proc(5).
#[derive(Clone, Copy, Debug)]
pub struct Place<'p> {
    /// Its id.
    pub id: u64,
    /// The id of the mount that it is mounted on: its own for the root of the tree, or one that is not listed.
    pub parent: u64,
    /// Where it is mounted.
    pub mount_point: &'p Path,
}

/// All mounts, by what is mounted on what.
#[derive(Debug)]
pub struct MountTree<'p> {
    places: HashMap<u64, Place<'p>>,
    /// The mount points on each mount, by its id.
    points_on: HashMap<u64, HashSet<&'p Path>>,
    /// What was found out before: neighbours share all that is above them.
    bypassed: HashMap<u64, bool>,
    #[cfg(test)]
    look_ups: std::cell::Cell<usize>,
}

impl<'p> MountTree<'p> {
    /// The tree that these make.
    pub fn new(places: impl IntoIterator<Item = Place<'p>>) -> Self {
        let mut tree = Self {
            places: HashMap::new(),
            points_on: HashMap::new(),
            bypassed: HashMap::new(),
            #[cfg(test)]
            look_ups: std::cell::Cell::default(),
        };
        for place in places {
            tree.places.entry(place.id).or_insert(place);
            // A root that is its own parent hides neither itself nor what is mounted on it.
            if place.parent != place.id {
                tree.points_on.entry(place.parent).or_default().insert(place.mount_point);
            }
        }
        tree
    }

    /// Whether the mount point leads to this mount and not to one that was mounted over it or over a directory above it.
    pub fn leads_to(&mut self, place: Place<'p>) -> bool {
        !self.has_on(place.id, place.mount_point) && !self.is_bypassed(place)
    }

    /// Whether this mount, or one that it is mounted on, lies under a neighbour's mount point.
    fn is_bypassed(&mut self, place: Place<'p>) -> bool {
        let (mut bypassed, mut visited) = (false, Vec::new());
        let mut next = Some(place);
        while let Some(place) = next {
            if let Some(&known) = self.bypassed.get(&place.id) {
                bypassed = known;
                break;
            }
            // Known from here on, so that a list in which mounts are each other's parents comes to an end.
            self.bypassed.insert(place.id, false);
            visited.push(place.id);
            bypassed = place.mount_point.ancestors().skip(1).any(|above| self.has_on(place.parent, above));
            next = self.places.get(&place.parent).copied().filter(|_| !bypassed);
        }
        self.bypassed.extend(visited.into_iter().map(|id| (id, bypassed)));
        bypassed
    }

    fn has_on(&self, mount: u64, point: &Path) -> bool {
        #[cfg(test)]
        self.look_ups.set(self.look_ups.get() + 1);
        self.points_on.get(&mount).is_some_and(|points| points.contains(point))
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    /// How many of them a path leads to, and how many look-ups that took.
    fn reachable(mounts: &[(u64, u64, PathBuf)]) -> (usize, usize) {
        let places = || mounts.iter().map(|(id, parent, point)| Place { id: *id, parent: *parent, mount_point: point });
        let mut tree = MountTree::new(places());
        let reachable = places().filter(|place| tree.leads_to(*place)).count();
        (reachable, tree.look_ups.get())
    }

    #[test]
    fn thousands_of_neighbours_cost_a_look_up_for_each_part_of_their_paths() {
        let mut mounts = vec![(1, 0, PathBuf::from("/"))];
        mounts.extend((2..2002).map(|id| (id, 1, format!("/srv/pods/{id}").into())));
        let (reachable, look_ups) = reachable(&mounts);
        assert_eq!(reachable, 2001);
        assert!(look_ups <= 5 * mounts.len(), "{look_ups} look-ups for {} mounts", mounts.len());
    }

    #[test]
    fn a_deep_chain_is_climbed_once() {
        let mut mounts = vec![(1, 1, PathBuf::from("/"))];
        let root = mounts[0].2.clone();
        mounts.extend((2..502).map(|id| (id, id - 1, root.join("d/".repeat(id as usize)))));
        let (reachable, look_ups) = reachable(&mounts);
        let parts: usize = mounts.iter().map(|(_, _, point)| point.ancestors().count()).sum();
        assert_eq!(reachable, 501);
        assert!(look_ups <= parts + mounts.len(), "{look_ups} look-ups for {parts} parts of paths");
    }

    #[test]
    fn what_is_mounted_on_a_bypassed_mount_is_bypassed_in_any_order() {
        let mut mounts: Vec<_> = [(1, 1, "/"), (2, 1, "/a/b"), (3, 2, "/a/b/c"), (4, 3, "/a/b/c/d"), (5, 1, "/a")]
            .map(|(id, parent, point)| (id, parent, PathBuf::from(point)))
            .into();
        assert_eq!(reachable(&mounts).0, 2);
        mounts.reverse();
        assert_eq!(reachable(&mounts).0, 2);
    }
}
