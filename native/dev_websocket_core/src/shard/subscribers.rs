//! The connections that have a subscription.
//!
//! To tell all of them is a walk through a list. Where they are many, their places in it are known, so that each leaves
//! in a few steps.

use std::collections::HashMap;

use super::ids::ConnectionIndex;
use crate::message::topic::PrecomputedHash;

/// So few are looked through.
const FEW: usize = 32;

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Subscribers {
    connections: Vec<ConnectionIndex>,
    /// Where each stands, since there were more than [`FEW`].
    places: Option<Box<Places>>,
}

/// By connection. Apart, as an entry should be small: nearly all have few subscribers.
#[derive(Debug)]
struct Places(HashMap<u64, u32, PrecomputedHash>);

impl Subscribers {
    /// All of them, in no particular order.
    pub(super) fn as_slice(&self) -> &[ConnectionIndex] {
        &self.connections
    }

    pub(super) fn len(&self) -> usize {
        self.connections.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    pub(super) fn contains(&self, connection: ConnectionIndex) -> bool {
        self.place(connection).is_some()
    }

    /// Adds one that is not there yet.
    pub(super) fn add(&mut self, connection: ConnectionIndex) {
        let place = self.connections.len() as u32;
        self.connections.push(connection);
        if let Some(places) = &mut self.places {
            places.0.insert(connection.into(), place);
        } else if self.connections.len() > FEW {
            let places = self
                .connections
                .iter()
                .map(|there| u64::from(*there))
                .zip(0..);
            self.places = Some(Box::new(Places(places.collect())));
        }
    }

    /// Removes one. False when it is not there.
    pub(super) fn remove(&mut self, connection: ConnectionIndex) -> bool {
        let Some(place) = self.place(connection) else {
            return false;
        };
        self.connections.swap_remove(place);
        if let Some(places) = &mut self.places {
            places.0.remove(&connection.into());
            if let Some(moved) = self.connections.get(place) {
                places.0.insert((*moved).into(), place as u32);
            }
            if self.connections.len() < FEW / 2 {
                self.places = None;
                self.connections.shrink_to_fit();
            }
        }
        true
    }

    fn place(&self, connection: ConnectionIndex) -> Option<usize> {
        match &self.places {
            Some(places) => places
                .0
                .get(&connection.into())
                .map(|place| *place as usize),
            None => self
                .connections
                .iter()
                .position(|there| *there == connection),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_hundred_thousand_leave_in_any_order() {
        let mut subscribers = Subscribers::default();
        for connection in 0..100_000 {
            subscribers.add(connection);
        }
        // Looking through them would take 5,000,000,000 steps.
        for connection in (0..100_000).rev().step_by(2).chain((0..100_000).step_by(2)) {
            assert!(subscribers.contains(connection));
            subscribers.remove(connection);
            assert!(!subscribers.contains(connection));
        }
        assert!(subscribers.is_empty() && subscribers.places.is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn subscribers_are_a_set(steps in prop::collection::vec((any::<bool>(), 0_u32..100), 0..400)) {
            let mut subscribers = Subscribers::default();
            let mut model = BTreeSet::new();
            for (adds, connection) in steps {
                prop_assert_eq!(subscribers.contains(connection), model.contains(&connection));
                if adds && model.insert(connection) {
                    subscribers.add(connection);
                } else if !adds {
                    prop_assert_eq!(subscribers.remove(connection), model.remove(&connection));
                }
                let mut all = subscribers.as_slice().to_vec();
                all.sort_unstable();
                prop_assert_eq!(all, model.iter().copied().collect::<Vec<_>>());
                prop_assert_eq!(subscribers.len(), model.len());
                prop_assert!(subscribers.places.is_some() || subscribers.len() <= FEW);
            }
        }
    }
}
