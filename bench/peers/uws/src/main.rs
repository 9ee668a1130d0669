//! A peer: uWebSockets (C++) with its own topics, fed from another thread through its loop, as its documentation asks.
//!
//! The library is the one inside the Python package `socketify`, loaded at run time; no Python runs here, so what is
//! measured is uWebSockets itself.

mod ffi;

use ffi::{Api, App, Behavior, Loop, Opcode};
use std::{
    ffi::{c_int, c_void},
    sync::OnceLock,
};
use wsbench::{
    feed::{self, Publish, Topic},
    handshake,
};

/// Plain TCP, in the library's terms.
const NO_TLS: c_int = 0;
const WELCOME: &[u8] = br#"{"type":"welcome"}"#;

static API: OnceLock<Api> = OnceLock::new();
/// The app, for callbacks on the loop's thread.
static APP: OnceLock<App> = OnceLock::new();

/// A message on its way to the loop's thread.
struct Job {
    topic: String,
    payload: Vec<u8>,
}

/// Publishes from the thread that reads commands.
struct Feeder {
    the_loop: Loop,
}

impl Publish for Feeder {
    fn publish(&mut self, topic: &Topic, payload: &[u8]) {
        let job = Box::new(Job {
            topic: topic.name.clone(),
            payload: payload.to_vec(),
        });
        if let Some(api) = API.get() {
            // SAFETY: defer is the one call that the library allows from any thread; the loop lives as long as the
            // process, and `on_job` takes the box back exactly once.
            unsafe { (api.defer)(self.the_loop, on_job, Box::into_raw(job).cast()) };
        }
    }
}

extern "C" fn on_job(job: *mut c_void) {
    // SAFETY: made by `Feeder::publish`, and the loop calls this once.
    let job = unsafe { Box::from_raw(job.cast::<Job>()) };
    if let (Some(api), Some(app)) = (API.get(), APP.get()) {
        let (topic, payload) = (job.topic.as_bytes(), job.payload.as_slice());
        // SAFETY: on the loop's thread; both slices outlive the call, which copies.
        unsafe {
            (api.publish)(
                NO_TLS,
                *app,
                topic.as_ptr(),
                topic.len(),
                payload.as_ptr(),
                payload.len(),
                Opcode::TEXT,
                false,
            )
        };
    }
}

extern "C" fn on_upgrade(
    response: ffi::Response,
    request: ffi::Request,
    context: ffi::Context,
    _: *mut c_void,
) {
    let Some(api) = API.get() else { return };
    let header = |name: &str| {
        let mut value = std::ptr::null();
        // SAFETY: the library gives a slice of its own buffer that lives as long as this callback.
        let len = unsafe { (api.req_header)(request, name.as_ptr(), name.len(), &mut value) };
        (value, len)
    };
    let mut query = std::ptr::null();
    // SAFETY: as above.
    let target = unsafe {
        let len = (api.req_query)(request, b"topic".as_ptr(), 5, &mut query);
        if query.is_null() {
            String::new()
        } else {
            String::from_utf8_lossy(std::slice::from_raw_parts(query, len)).into_owned()
        }
    };
    let data: *mut String = Box::into_raw(Box::new(format!("?topic={target}")));
    let (key, protocol, extensions) = (
        header("sec-websocket-key"),
        header("sec-websocket-protocol"),
        header("sec-websocket-extensions"),
    );
    // SAFETY: all slices live as long as this callback; `data` is given back in `on_close`.
    unsafe {
        (api.upgrade)(
            NO_TLS,
            response,
            data.cast(),
            key.0,
            key.1,
            protocol.0,
            protocol.1,
            extensions.0,
            extensions.1,
            context,
        );
    }
}

extern "C" fn on_open(socket: ffi::Socket, _: *mut c_void) {
    let Some(api) = API.get() else { return };
    // SAFETY: on the loop's thread, with a socket that is open; its data was set in `on_upgrade`.
    unsafe {
        let data = (api.user_data)(NO_TLS, socket).cast::<String>();
        if let Some(target) = data.as_ref() {
            for topic in handshake::topics(target) {
                (api.subscribe)(NO_TLS, socket, topic.as_ptr(), topic.len());
            }
        }
        (api.send)(
            NO_TLS,
            socket,
            WELCOME.as_ptr(),
            WELCOME.len(),
            Opcode::TEXT,
        );
    }
}

extern "C" fn on_close(socket: ffi::Socket, _: c_int, _: *const u8, _: usize, _: *mut c_void) {
    let Some(api) = API.get() else { return };
    // SAFETY: the library calls this once per socket, and nothing uses the data after it.
    unsafe {
        let data = (api.user_data)(NO_TLS, socket).cast::<String>();
        if !data.is_null() {
            drop(Box::from_raw(data));
        }
    }
}

extern "C" fn on_listen(listening: *mut c_void, _: ffi::ListenConfig, port: *mut c_void) {
    let Some(api) = API.get() else { return };
    if !listening.is_null() {
        // SAFETY: `port` is the variable in `start`, which waits in the call that calls this.
        unsafe {
            port.cast::<c_int>()
                .write((api.local_port)(NO_TLS, listening))
        };
    }
}

/// Makes app, route and listener on this thread, whose loop it will be.
fn start(api: &'static Api) -> Result<(App, u16), String> {
    let mut port: c_int = 0;
    // SAFETY: the order and the thread are what the library asks for; all pointers are valid during the calls, the
    // callbacks are `extern "C"` functions of the types that its header names.
    let app = unsafe {
        let app = (api.create_app)(NO_TLS, ffi::ContextOptions::default());
        let behavior = Behavior::new(on_upgrade, on_open, on_close);
        (api.ws)(NO_TLS, app, c"/ws".as_ptr(), behavior, std::ptr::null_mut());
        let config = ffi::ListenConfig {
            port: 0,
            host: c"127.0.0.1".as_ptr(),
            options: 0,
        };
        (api.listen)(NO_TLS, app, config, on_listen, (&raw mut port).cast());
        app
    };
    match u16::try_from(port) {
        Ok(port @ 1..) => Ok((app, port)),
        _ => Err("cannot listen".into()),
    }
}

fn run() -> Result<(), String> {
    let library = std::env::args()
        .nth(1)
        .ok_or("usage: peer-uws PATH/libsocketify_linux_amd64.so")?;
    let loaded = Api::load(&library).map_err(|error| error.to_string())?;
    let api = API.get_or_init(|| loaded);
    // SAFETY: makes or gives this thread's loop.
    let the_loop = unsafe { (api.get_loop)() };
    let (app, port) = start(api)?;
    APP.get_or_init(|| app);
    feed::ready(port).map_err(|error| error.to_string())?;
    std::thread::spawn(move || {
        let served = feed::serve(&mut Feeder { the_loop });
        std::process::exit(i32::from(served.is_err()));
    });
    // SAFETY: on the thread that made the app. Returns when nothing listens any more, so never.
    unsafe { (api.run)(NO_TLS, app) };
    Err("the loop ended".into())
}

fn main() -> std::process::ExitCode {
    match run() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("peer-uws: {message}");
            std::process::ExitCode::FAILURE
        }
    }
}
