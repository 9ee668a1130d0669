//! A pool that reuses the buffers of forgotten publications for new ones.
//!
//! Schedulers allocate publications and a shard forgets them. A free on the shard's thread would take the lock of the
//! scheduler's allocator arena. One thread would then wait for the other while a message is published. The shard
//! therefore returns buffers to the pool in bundles, and a publishing thread takes one bundle for its next
//! publications.
//!
//! While the history still grows, no buffer comes back, so the shard allocates new ones ahead and touches their
//! memory. The system needs microseconds for the first touch of each page.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::log::publication::{Publication, compressed};

/// The number of size classes. A class holds buffers of up to twice the size of the class before; larger buffers are
/// not kept.
const CLASSES: usize = 5;
const SMALLEST: usize = 512;
const LARGEST: usize = SMALLEST << (CLASSES - 1);

/// The maximum number of buffer bytes in a bundle.
const BUNDLE_BYTES: usize = 64 * 1024;

/// The bounds on the bundles that each class keeps ready for publishing threads. The minimum applies to a class once a
/// thread has taken from it.
const FEWEST_BUNDLES: usize = 4;
const MOST_BUNDLES: usize = 8;

type Bundle = Vec<Arc<Publication>>;

thread_local! {
    /// The current thread's buffers for its next publications.
    static OWN: RefCell<[Bundle; CLASSES]> = const { RefCell::new([const { Bundle::new() }; CLASSES]) };
}

/// The shared pool of bundles by size class; each server has one.
#[derive(Debug, Default)]
pub(crate) struct BufferPool {
    classes: [Class; CLASSES],
    /// The memory that publications reserve for their compressed forms.
    pub(crate) compression: CompressionRoom,
}

#[derive(Debug, Default)]
struct Class {
    bundles: Mutex<Vec<Bundle>>,
    /// The largest buffer that a thread wanted when it took a bundle; 0 when no thread has asked since the last
    /// restock.
    wanted: AtomicUsize,
}

/// The smallest frame that is compressed, in bytes; 0 compresses none. Publications reserve memory by it.
#[derive(Debug, Default)]
pub(crate) struct CompressionRoom(AtomicUsize);

/// The memory reserved for the compressed forms of a publication.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reserved {
    pub(crate) bytes: usize,
    /// True if the publication may be compressed.
    pub(crate) is_compressible: bool,
}

impl CompressionRoom {
    /// Sets the smallest frame that is compressed.
    pub(crate) fn set(&self, min: usize) {
        self.0.store(min, Ordering::Relaxed);
    }

    /// Returns the memory for a publication with a frame of at most `frame` bytes.
    pub(crate) fn room(&self, frame: usize) -> Reserved {
        let min = self.0.load(Ordering::Relaxed);
        Reserved {
            bytes: compressed::room(frame, min),
            is_compressible: min > 0 && frame >= min,
        }
    }
}

/// The buffer of a future publication; it is empty when the pool had none.
#[derive(Debug, Default)]
pub(crate) struct Spare(Option<Arc<Publication>>);

impl BufferPool {
    /// Takes a buffer for a publication of `bytes` bytes; the result is empty when the pool has none.
    pub(crate) fn take(&self, bytes: usize) -> Spare {
        let Some(class) = class(bytes) else {
            return Spare::default();
        };
        let take = |own: &RefCell<[Bundle; CLASSES]>| {
            let own = &mut own.borrow_mut()[class];
            if own.is_empty() {
                *own = self.classes[class].take(bytes);
            }
            own.pop()
        };
        // A thread that is ending has already dropped its thread-local buffers.
        Spare(OWN.try_with(take).ok().flatten())
    }

    /// Keeps the publications that have no other owner, as long as the pool has room.
    pub(crate) fn put(&self, forgotten: Vec<Arc<Publication>>) {
        let mut bundles = [const { Bundle::new() }; CLASSES];
        // Threads take a bundle's last buffer first, so the reversed order hands out memory in ascending order.
        for mut publication in forgotten.into_iter().rev() {
            if let Some(class) = class(publication.buffer_bytes())
                && let Some(unshared) = Arc::get_mut(&mut publication)
            {
                unshared.forget_compressed();
                let bundle = &mut bundles[class];
                bundle.push(publication);
                if bundle.len() == per_bundle(class) {
                    self.classes[class].put(std::mem::take(bundle));
                }
            }
        }
        for (class, bundle) in self.classes.iter().zip(bundles) {
            if !bundle.is_empty() {
                class.put(bundle);
            }
        }
    }

    /// Allocates buffers for classes that were in demand and hold few bundles.
    pub(crate) fn restock(&self) {
        for (number, class) in self.classes.iter().enumerate() {
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
        // A thread that would have to wait for the lock allocates instead.
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
    /// Returns the buffer, emptied, with room for `bytes` bytes.
    pub(crate) fn take_buffer(&mut self, bytes: usize) -> Vec<u8> {
        let mut buffer = match self.0.as_mut().and_then(Arc::get_mut) {
            Some(publication) => publication.take_buffer(),
            None => Vec::new(),
        };
        buffer.clear();
        buffer.reserve_exact(bytes);
        buffer
    }

    /// Stores the publication in this memory.
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

/// Returns the maximum number of buffers in a bundle of a class.
fn per_bundle(class: usize) -> usize {
    BUNDLE_BYTES / (SMALLEST << class)
}

/// Returns the class of a buffer size, or none for sizes beyond the largest class.
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
            .number(seq, seq)
    }

    fn waiting(buffers: &BufferPool, class: usize) -> Vec<usize> {
        let bundles = buffers.classes[class].bundles.lock();
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
    fn held_or_large_buffers_are_not_kept() {
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
        // The buffer has exactly the wanted room, so the pool does not increase the footprint.
        let second = publish(&buffers, 2, &[], &"x".repeat(600));
        assert_eq!(second.footprint(), first.footprint());
        buffers.classes[1].wanted.store(0, Ordering::Relaxed);
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
    fn few_buffers_are_kept_of_many_forgotten_at_once() {
        let buffers = BufferPool::default();
        let fresh = BufferPool::default();
        let forgotten = (0..20_000).map(|seq| publish(&fresh, seq, &[], "x"));
        buffers.put(forgotten.collect());
        assert_eq!(waiting(&buffers, 0), [128; MOST_BUNDLES]);
    }

    proptest! {
        /// A reused buffer shows nothing of its earlier publication.
        #[test]
        fn old_memory_says_nothing_old(
            messages in prop::collection::vec((prop::collection::vec("[a-z]{1,40}", 0..5), 0_usize..3000, any::<bool>()), 1..60),
        ) {
            let buffers = BufferPool::default();
            let eras = crate::log::eras::Eras::new("epoch");
            let mut kept = Vec::new();
            for (seq, (topics, length, is_forgotten)) in messages.iter().enumerate() {
                let data = "x".repeat(*length);
                let publication = publish(&buffers, seq as u64, topics, &data);
                let expected = publish(&BufferPool::default(), seq as u64, topics, &data);
                prop_assert_eq!(publication.raw_frame(), expected.raw_frame());
                prop_assert_eq!(publication.topics(), expected.topics());
                // The rest of the frame is the timestamp.
                prop_assert_eq!(publication.json_frame().len(), expected.json_frame().len());
                prop_assert_eq!(publication.seq(), expected.seq());
                publication.prepare_event(&eras);
                expected.prepare_event(&eras);
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
