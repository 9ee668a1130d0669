//! Signals between a connection's task and its shard. The loops of both are cut down to their use of the connection's
//! state; the socket is a count of frames that it takes.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, ready};

use bytes::Bytes;
use loom::future::block_on;
use loom::thread;

use super::connection_handle::ConnectionHandle;
use super::connection_state::ConnectionState;
use crate::shard::command::Command;
use crate::shard::mailbox::{Mailbox, Idle};
use crate::shard::peer::Peer;
use crate::sync::TcpStream;
use crate::sync::atomic::AtomicUsize;
use crate::wire::close::Disconnect;

pub(crate) const ALL: &[(&str, fn())] = &[
    ("who waits for control room gets it, and all of it is given back", control_room),
    ("who waits for control room hears of the end", end_of_control_room),
    ("a blocked socket that takes bytes again is written to", outbound),
    ("a reason to close is heard", close),
    ("no other word hides a block", block),
    ("bytes for one connection are counted back to nothing", direct),
    ("a refused frame takes no room from another", refused),
];

/// As much as the control room of the model.
const FRAME: &[u8] = &[0; 64];

fn connection() -> (ConnectionHandle, Arc<Mailbox<Command>>, TcpStream) {
    let (mailbox, stream) = (Arc::new(Mailbox::default()), TcpStream::default());
    let state = ConnectionState::new(1, stream.clone(), Peer, Arc::new(AtomicUsize::new(0)));
    (ConnectionHandle::new(state, mailbox.clone()), mailbox, stream)
}

/// A shard's thread: carries out commands until that says that it is enough.
fn run(mailbox: &Mailbox<Command>, mut carry_out: impl FnMut(Command) -> bool) {
    mailbox.attach();
    let mut commands = Vec::new();
    loop {
        mailbox.take(&mut commands);
        let mut is_done = false;
        for command in commands.drain(..) {
            is_done |= carry_out(command);
        }
        if is_done {
            return;
        }
        mailbox.sleep_unless(Idle::Light, || false);
    }
}

fn control_room() {
    let (handle, mailbox, _) = connection();
    let task = {
        let handle = handle.clone();
        thread::spawn(move || {
            for _ in 0..2 {
                block_on(std::future::poll_fn(|context| handle.poll_send_control(context, FRAME))).unwrap();
            }
            block_on(std::future::poll_fn(|context| handle.poll_request_room(context))).unwrap();
        })
    };
    let mut frames = 0;
    run(&mailbox, |command| {
        if let Command::Control { bytes, .. } = command {
            handle.control_sent(bytes.len());
            frames += 1;
        }
        frames == 2
    });
    task.join().unwrap();
    // All but one byte of the room, and then no more.
    handle.control_made(63);
    assert!(handle.has_control_room());
    handle.control_made(1);
    assert!(!handle.has_control_room());
}

fn end_of_control_room() {
    let (handle, _, _) = connection();
    handle.control_made(64);
    let shard = {
        let handle = handle.clone();
        thread::spawn(move || handle.end())
    };
    block_on(std::future::poll_fn(|context| handle.poll_request_room(context))).unwrap_err();
    block_on(handle.changed());
    assert!(handle.has_ended());
    shard.join().unwrap();
}

fn outbound() {
    const FRAMES: usize = 2;
    let (handle, mailbox, stream) = connection();
    {
        let (handle, stream) = (handle.clone(), stream.clone());
        thread::spawn(move || block_on(task(&handle, &stream)));
    }
    {
        let stream = stream.clone();
        thread::spawn(move || (0..FRAMES).for_each(|_| stream.read()));
    }
    let mut waiting = FRAMES;
    let mut flush = || {
        while waiting > 0 {
            if !stream.try_write() {
                handle.block();
                return false;
            }
            waiting -= 1;
        }
        handle.end();
        true
    };
    if !flush() {
        run(&mailbox, |command| matches!(command, Command::Writable { .. }) && flush());
    }
    assert_eq!(stream.taken(), FRAMES);
}

/// A connection's task, without what it reads from its client.
async fn task(handle: &ConnectionHandle, stream: &TcpStream) {
    let mut is_blocked = false;
    loop {
        let mut changed = pin!(handle.changed());
        let has_changed = std::future::poll_fn(|context| {
            if changed.as_mut().poll(context).is_ready() {
                return Poll::Ready(true);
            }
            if !is_blocked {
                return Poll::Pending;
            }
            ready!(stream.poll_writable(context));
            Poll::Ready(false)
        })
        .await;
        if has_changed {
            is_blocked |= handle.take_blocked();
            if handle.has_ended() {
                return;
            }
        } else {
            is_blocked = false;
            handle.tell(Command::Writable { connection: handle.id });
        }
    }
}

fn close() {
    let (handle, _, _) = connection();
    let shard = {
        let handle = handle.clone();
        thread::spawn(move || {
            handle.block();
            handle.close(Disconnect::Slow);
        })
    };
    block_on(async {
        let mut is_blocked = false;
        while handle.close_reason().is_none() {
            handle.changed().await;
            is_blocked |= handle.take_blocked();
        }
        assert!(is_blocked || handle.take_blocked());
    });
    shard.join().unwrap();
}

fn block() {
    let (handle, _, _) = connection();
    let shard = {
        let handle = handle.clone();
        thread::spawn(move || {
            handle.close(Disconnect::Slow);
            handle.block();
        })
    };
    block_on(async {
        while !handle.take_blocked() {
            handle.changed().await;
        }
    });
    shard.join().unwrap();
}

fn direct() {
    let (handle, mailbox, _) = connection();
    let senders = [1_u8, 2].map(|_| {
        let handle = handle.clone();
        thread::spawn(move || {
            let is_taken = handle.direct_made(FRAME.len(), 0);
            handle.tell(if is_taken {
                let frame = Bytes::from_static(FRAME);
                Command::Direct { connection: handle.id, after: 0, frame }
            } else {
                Command::Writable { connection: handle.id }
            });
            is_taken
        })
    });
    let mut told = 0;
    run(&mailbox, |command| {
        if let Command::Direct { frame, .. } = command {
            handle.direct_sent(frame.len());
        }
        told += 1;
        told == 2
    });
    let taken = senders.map(|sender| sender.join().unwrap());
    assert!(taken.contains(&true), "there was room for one");
    assert!(handle.direct_made(1, 0), "nothing waits");
}

fn refused() {
    let (handle, _, _) = connection();
    assert!(handle.direct_made(10, 0), "nothing waits");
    let sender = {
        let handle = handle.clone();
        thread::spawn(move || handle.direct_made(100, 5))
    };
    assert!(handle.direct_made(1, 50), "only 10 wait");
    assert!(!sender.join().unwrap(), "10 or more wait");
}
