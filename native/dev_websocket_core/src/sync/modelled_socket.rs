//! A socket as the two halves of a connection see it: it takes so many frames until the client reads.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::Mutex;

#[derive(Debug, Clone, Default)]
pub(crate) struct TcpStream(Arc<Mutex<Socket>>);

#[derive(Debug, Default)]
struct Socket {
    room: usize,
    taken: usize,
    waker: Option<Waker>,
}

impl TcpStream {
    /// Takes a frame, or says that it would block.
    pub(crate) fn try_write(&self) -> bool {
        let mut socket = self.0.lock();
        let has_room = socket.room > 0;
        if has_room {
            socket.room -= 1;
            socket.taken += 1;
        }
        has_room
    }

    /// The client reads: there is room for one more frame.
    pub(crate) fn read(&self) {
        let mut socket = self.0.lock();
        socket.room += 1;
        socket.waker.take().into_iter().for_each(Waker::wake);
    }

    pub(crate) fn poll_writable(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut socket = self.0.lock();
        if socket.room > 0 {
            return Poll::Ready(());
        }
        socket.waker = Some(context.waker().clone());
        Poll::Pending
    }

    /// Frames that were written.
    pub(crate) fn taken(&self) -> usize {
        self.0.lock().taken
    }
}
