//! The part of the library's C interface that is used here (libuwebsockets.h), by hand.

use std::ffi::{c_char, c_int, c_uint, c_ushort, c_void};

macro_rules! handle {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[repr(transparent)]
        #[derive(Clone, Copy)]
        pub(crate) struct $name(*mut c_void);
    )*};
}

handle! {
    /// us_loop_t
    Loop
    /// uws_app_t
    App
    /// uws_websocket_t
    Socket
    /// uws_res_t
    Response
    /// uws_req_t
    Request
    /// uws_socket_context_t
    Context
}

// SAFETY: only used from another thread for `defer`, which locks.
unsafe impl Send for Loop {}
// SAFETY: the pointer is only used on the loop's thread; it is shared to be reachable from callbacks.
unsafe impl Send for App {}
// SAFETY: as above.
unsafe impl Sync for App {}

/// uws_opcode_t
#[repr(transparent)]
pub(crate) struct Opcode(c_int);

impl Opcode {
    pub(crate) const TEXT: Self = Self(1);
}

/// us_socket_context_options_t: nothing but TLS settings.
#[repr(C)]
pub(crate) struct ContextOptions {
    names: [*const c_char; 6],
    prefer_low_memory: c_int,
}

impl Default for ContextOptions {
    fn default() -> Self {
        Self {
            names: [std::ptr::null(); 6],
            prefer_low_memory: 0,
        }
    }
}

/// uws_app_listen_config_t
#[repr(C)]
pub(crate) struct ListenConfig {
    pub(crate) port: c_int,
    pub(crate) host: *const c_char,
    pub(crate) options: c_int,
}

pub(crate) type OnUpgrade = extern "C" fn(Response, Request, Context, *mut c_void);
pub(crate) type OnOpen = extern "C" fn(Socket, *mut c_void);
pub(crate) type OnClose = extern "C" fn(Socket, c_int, *const u8, usize, *mut c_void);
pub(crate) type OnListen = extern "C" fn(*mut c_void, ListenConfig, *mut c_void);
type Unused = Option<extern "C" fn()>;

/// uws_socket_behavior_t
#[repr(C)]
pub(crate) struct Behavior {
    compression: c_int,
    max_payload_length: c_uint,
    idle_timeout: c_ushort,
    max_backpressure: c_uint,
    close_on_backpressure_limit: bool,
    reset_idle_timeout_on_send: bool,
    send_pings_automatically: bool,
    max_lifetime: c_ushort,
    upgrade: OnUpgrade,
    open: OnOpen,
    message: Unused,
    drain: Unused,
    ping: Unused,
    pong: Unused,
    close: OnClose,
    subscription: Unused,
}

impl Behavior {
    /// No compression, no time-out, and no bound on what a slow client may have waiting: with one, uWebSockets drops
    /// messages without a word.
    pub(crate) fn new(upgrade: OnUpgrade, open: OnOpen, close: OnClose) -> Self {
        Self {
            compression: 0,
            max_payload_length: 64 * 1024,
            idle_timeout: 0,
            max_backpressure: 0,
            close_on_backpressure_limit: false,
            reset_idle_timeout_on_send: false,
            send_pings_automatically: false,
            max_lifetime: 0,
            upgrade,
            open,
            message: None,
            drain: None,
            ping: None,
            pong: None,
            close,
            subscription: None,
        }
    }
}

/// Declares the functions with their names in the library, and loads them all or none.
macro_rules! api {
    ($($field:ident = $symbol:literal: fn($($arg:ty),*) $(-> $result:ty)?;)*) => {
        pub(crate) struct Api {
            $(pub(crate) $field: unsafe extern "C" fn($($arg),*) $(-> $result)?,)*
            _library: libloading::Library,
        }

        impl Api {
            pub(crate) fn load(path: &str) -> Result<Self, libloading::Error> {
                // SAFETY: the library's initializers are those of a C++ library that Python loads just so; the types
                // below are those of its header, and the library is kept as long as its functions.
                unsafe {
                    let library = libloading::Library::new(path)?;
                    Ok(Self { $($field: *library.get($symbol)?,)* _library: library })
                }
            }
        }
    };
}

api! {
    get_loop = b"uws_get_loop": fn() -> Loop;
    defer = b"uws_loop_defer": fn(Loop, extern "C" fn(*mut c_void), *mut c_void);
    create_app = b"uws_create_app": fn(c_int, ContextOptions) -> App;
    ws = b"uws_ws": fn(c_int, App, *const c_char, Behavior, *mut c_void);
    listen = b"uws_app_listen_with_config": fn(c_int, App, ListenConfig, OnListen, *mut c_void);
    run = b"uws_app_run": fn(c_int, App);
    local_port = b"us_socket_local_port": fn(c_int, *mut c_void) -> c_int;
    publish = b"uws_publish": fn(c_int, App, *const u8, usize, *const u8, usize, Opcode, bool) -> bool;
    req_header = b"uws_req_get_header": fn(Request, *const u8, usize, *mut *const u8) -> usize;
    req_query = b"uws_req_get_query": fn(Request, *const u8, usize, *mut *const u8) -> usize;
    upgrade = b"uws_res_upgrade": fn(c_int, Response, *mut c_void, *const u8, usize, *const u8, usize, *const u8, usize, Context);
    user_data = b"uws_ws_get_user_data": fn(c_int, Socket) -> *mut c_void;
    subscribe = b"uws_ws_subscribe": fn(c_int, Socket, *const u8, usize) -> bool;
    send = b"uws_ws_send": fn(c_int, Socket, *const u8, usize, Opcode) -> c_int;
}
