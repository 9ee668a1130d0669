//! Memory of publications that nobody needs any more, for new ones.
//!
//! Schedulers make publications and a shard forgets them. Were their memory freed there, each free would take the lock
//! of the allocator's arena that the scheduler allocates from, and one would wait for the other in the middle of a
//! cast. So the shard hands them back, a bundle at a time, and a thread that publishes takes a bundle for its next
//! casts. While the history still grows nothing comes back, so the shard makes new ones ahead, whose memory has been
//! touched: the system takes microseconds for each page that is touched first.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::log::publication::Publication;

/// Buffers are kept apart by size, each class up to twice the size of the one before; larger ones are not kept.
const CLASSES: usize = 5;
const SMALLEST: usize = 512;
const LARGEST: usize = SMALLEST << (CLASSES - 1);

/// Bytes of buffers in a bundle, at most.
const BUNDLE_BYTES: usize = 64 * 1024;

/// Bundles of each class that wait for somebody who publishes: at least, once somebody did, and at most.
const FEWEST_BUNDLES: usize = 4;
const MOST_BUNDLES: usize = 8;

type Bundle = Vec<Arc<Publication>>;

thread_local! {
    /// What this thread makes its next publications of.
    static OWN: RefCell<[Bundle; CLASSES]> = const { RefCell::new([const { Bundle::new() }; CLASSES]) };
}

/// What is kept. One per server.
#[derive(Debug, Default)]
pub(crate) struct BufferPool([Class; CLASSES]);

#[derive(Debug, Default)]
struct Class {
    bundles: Mutex<Vec<Bundle>>,
    /// The largest buffer that was wanted when a thread came for a bundle; 0 when none did since the last look.
    wanted: AtomicUsize,
}

/// The memory of a publication to be.
#[derive(Debug, Default)]
pub(crate) struct Spare(Option<Arc<Publication>>);

impl BufferPool {
    /// Memory for a publication of so many bytes; nothing is in it if there is none to spare.
    pub(crate) fn take(&self, bytes: usize) -> Spare {
        let Some(class) = class(bytes) else {
            return Spare::default();
        };
        let take = |own: &RefCell<[Bundle; CLASSES]>| {
            let own = &mut own.borrow_mut()[class];
            if own.is_empty() {
                *own = self.0[class].take(bytes);
            }
            own.pop()
        };
        // A thread that ends has nothing of its own any more.
        Spare(OWN.try_with(take).ok().flatten())
    }

    /// Keeps those that nobody else holds, as far as there is room.
    pub(crate) fn put(&self, forgotten: Vec<Arc<Publication>>) {
        let mut bundles = [const { Bundle::new() }; CLASSES];
        // The last of a bundle is taken first; in memory each lies before the next.
        for publication in forgotten.into_iter().rev() {
            if let Some(class) = class(publication.buffer_bytes())
                && Arc::strong_count(&publication) == 1
            {
                let bundle = &mut bundles[class];
                bundle.push(publication);
                if bundle.len() == per_bundle(class) {
                    self.0[class].put(std::mem::take(bundle));
                }
            }
        }
        for (class, bundle) in self.0.iter().zip(bundles) {
            if !bundle.is_empty() {
                class.put(bundle);
            }
        }
    }

    /// Makes new ones where some were wanted and few are left.
    pub(crate) fn restock(&self) {
        for (number, class) in self.0.iter().enumerate() {
            let bytes = class.wanted.swap(0, Ordering::Relaxed);
            if bytes > 0 {
                let spare = || Arc::new(Publication::spare(bytes));
                while class.bundles.lock().len() < FEWEST_BUNDLES {
                    class.put((0..per_bundle(number)).map(|_| spare()).collect());
                }
            }
        }
    }
}

impl Class {
    fn take(&self, bytes: usize) -> Bundle {
        self.wanted.fetch_max(bytes, Ordering::Relaxed);
        // Who would have to wait allocates instead.
        let bundles = self.bundles.try_lock();
        bundles
            .and_then(|mut bundles| bundles.pop())
            .unwrap_or_default()
    }

    fn put(&self, bundle: Bundle) {
        let mut bundles = self.bundles.lock();
        if bundles.len() < MOST_BUNDLES {
            bundles.push(bundle);
        }
    }
}

impl Spare {
    /// Its buffer, empty, with room for so many bytes.
    pub(crate) fn take_buffer(&mut self, bytes: usize) -> Vec<u8> {
        let mut buffer = match self.0.as_mut().and_then(Arc::get_mut) {
            Some(publication) => publication.take_buffer(),
            None => Vec::new(),
        };
        buffer.clear();
        buffer.reserve_exact(bytes);
        buffer
    }

    /// Makes it that publication.
    pub(crate) fn fill(self, publication: Publication) -> Arc<Publication> {
        if let Some(mut shared) = self.0
            && let Some(place) = Arc::get_mut(&mut shared)
        {
            *place = publication;
            return shared;
        }
        Arc::new(publication)
    }
}

/// How many are in a bundle of that class, at most.
fn per_bundle(class: usize) -> usize {
    BUNDLE_BYTES / (SMALLEST << class)
}

/// Which class a buffer of that size belongs to.
fn class(bytes: usize) -> Option<usize> {
    let steps = |bytes: usize| (bytes.next_power_of_two() / SMALLEST).max(1).ilog2() as usize;
    (bytes <= LARGEST).then(|| steps(bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::log::publication::draft::Draft;
    use crate::message::Value;
    use crate::message::provenance::UNKNOWN;
    use crate::message::topic::{Topic, Topics};

    fn publish(buffers: &BufferPool, seq: u64, topics: &[String], data: &str) -> Arc<Publication> {
        let topics: Topics = topics
            .iter()
            .map(|name| Topic::new(name).unwrap())
            .collect();
        let data = Value::Text(data.into());
        Draft::encode(buffers, topics, &data, &UNKNOWN, 1 << 20, false)
            .unwrap()
            .number(seq)
    }

    fn waiting(buffers: &BufferPool, class: usize) -> Vec<usize> {
        let bundles = buffers.0[class].bundles.lock();
        bundles.iter().map(Vec::len).collect()
    }

    #[test]
    fn sizes_have_their_classes() {
        for (bytes, expected) in [
            (0, Some(0)),
            (1, Some(0)),
            (512, Some(0)),
            (513, Some(1)),
            (1024, Some(1)),
            (1025, Some(2)),
            (8192, Some(4)),
            (8193, None),
            (usize::MAX, None),
        ] {
            assert_eq!(class(bytes), expected, "{bytes}");
        }
    }

    #[test]
    fn memory_is_used_again_from_the_first_that_was_forgotten_on() {
        let buffers = BufferPool::default();
        let forgotten: Vec<_> = (1..=3)
            .map(|seq| publish(&buffers, seq, &[], "x"))
            .collect();
        let places: Vec<_> = forgotten.iter().map(Arc::as_ptr).collect();
        buffers.put(forgotten);
        for (number, place) in places.into_iter().enumerate() {
            let again = publish(&buffers, 10 + number as u64, &[], "y");
            assert_eq!(Arc::as_ptr(&again), place);
        }
        assert!(waiting(&buffers, 0).is_empty());
    }

    #[test]
    fn what_somebody_holds_or_is_large_is_not_kept() {
        let buffers = BufferPool::default();
        let held = publish(&buffers, 1, &[], "x");
        let large = publish(&buffers, 2, &[], &"x".repeat(LARGEST));
        buffers.put(vec![held.clone(), large]);
        assert!((0..CLASSES).all(|class| waiting(&buffers, class).is_empty()));
        assert_eq!(held.seq(), 1);
    }

    #[test]
    fn new_ones_are_made_where_some_were_wanted_and_bundles_are_bounded() {
        let buffers = BufferPool::default();
        buffers.restock();
        assert!(waiting(&buffers, 1).is_empty());
        let first = publish(&buffers, 1, &[], &"x".repeat(600));
        buffers.restock();
        assert_eq!(waiting(&buffers, 1).len(), FEWEST_BUNDLES);
        assert!(waiting(&buffers, 0).is_empty() && waiting(&buffers, 2).is_empty());
        // Its buffer has the room that was wanted, and no more is made than is used.
        let second = publish(&buffers, 2, &[], &"x".repeat(600));
        assert_eq!(second.footprint(), first.footprint());
        buffers.0[1].wanted.store(0, Ordering::Relaxed);
        buffers.restock();
        assert_eq!(waiting(&buffers, 1).len(), FEWEST_BUNDLES - 1);
        for seq in 0..100 {
            buffers.put(vec![publish(
                &BufferPool::default(),
                seq,
                &[],
                &"x".repeat(600),
            )]);
        }
        assert_eq!(waiting(&buffers, 1).len(), MOST_BUNDLES);
    }

    #[test]
    fn of_very_many_that_are_forgotten_at_once_few_are_kept() {
        let buffers = BufferPool::default();
        let fresh = BufferPool::default();
        let forgotten = (0..20_000).map(|seq| publish(&fresh, seq, &[], "x"));
        buffers.put(forgotten.collect());
        assert_eq!(waiting(&buffers, 0), [128; MOST_BUNDLES]);
    }

    proptest! {
        /// Nothing of what memory was used for before is left in it.
        #[test]
        fn old_memory_says_nothing_old(
            messages in prop::collection::vec((prop::collection::vec("[a-z]{1,40}", 0..5), 0_usize..3000, any::<bool>()), 1..60),
        ) {
            let buffers = BufferPool::default();
            let mut kept = Vec::new();
            for (seq, (topics, length, is_forgotten)) in messages.iter().enumerate() {
                let data = "x".repeat(*length);
                let publication = publish(&buffers, seq as u64, topics, &data);
                let expected = publish(&BufferPool::default(), seq as u64, topics, &data);
                prop_assert_eq!(publication.raw_frame(), expected.raw_frame());
                prop_assert_eq!(publication.topics(), expected.topics());
                // The rest of the frame is the time.
                prop_assert_eq!(publication.json_frame().len(), expected.json_frame().len());
                prop_assert_eq!(publication.seq(), expected.seq());
                publication.prepare_event("epoch");
                expected.prepare_event("epoch");
                prop_assert_eq!(publication.event()[2], expected.event()[2]);
                kept.push(publication);
                if *is_forgotten {
                    buffers.put(std::mem::take(&mut kept));
                    buffers.restock();
                }
            }
        }
    }
}
