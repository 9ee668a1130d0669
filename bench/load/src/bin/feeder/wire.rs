//! A connection that is written to by one thread and read by another.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

/// One write has at most so many bytes, and one message more.
const BATCH: usize = 64 * 1024;

/// The writing thread. It sends all waiting bytes in one write, as clients with batches do.
pub(crate) fn writer(mut stream: TcpStream) -> io::Result<Sender<Vec<u8>>> {
    let (sender, receiver) = mpsc::channel();
    thread::Builder::new()
        .name("writer".into())
        .spawn(move || end_with(write_all(&mut stream, &receiver)))?;
    Ok(sender)
}

fn write_all(stream: &mut TcpStream, messages: &Receiver<Vec<u8>>) -> io::Result<()> {
    while let Ok(mut batch) = messages.recv() {
        while batch.len() < BATCH
            && let Ok(next) = messages.try_recv()
        {
            batch.extend(next);
        }
        stream.write_all(&batch)?;
    }
    Ok(())
}

/// The reading thread: what the server says must not pile up.
pub(crate) fn reader(
    mut stream: TcpStream,
    mut take: impl FnMut(&[u8]) -> io::Result<()> + Send + 'static,
) -> io::Result<()> {
    let mut read_all = move || -> io::Result<()> {
        let mut buffer = vec![0; BATCH];
        loop {
            match stream.read(&mut buffer)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => take(&buffer[..read])?,
            }
        }
    };
    thread::Builder::new()
        .name("reader".into())
        .spawn(move || end_with(read_all()))?;
    Ok(())
}

/// Without its connection the feeder is of no use: the orchestrator sees that it has ended, and its log says why.
fn end_with(result: io::Result<()>) {
    if let Err(error) = result {
        eprintln!("feeder: {error}");
        std::process::exit(1);
    }
}
