//! The atoms that cross the boundary. Names of settings are made from the core's table instead.
#![allow(missing_docs, reason = "each atom is its own name")]

rustler::atoms! {
    ok,
    error,
    true_ = "true",
    false_ = "false",
    null,
    undefined,
    link,
    // Outcomes of a cast.
    large,
    dropped,
    too_large,
    overload,
    no_audience,
    not_running,
    // Why there is no server.
    not_started,
    restarting,
    stopped,
    listen,
    address,
    reason,
    threads,
    fault,
    eaddrinuse,
    eaddrnotavail,
    eacces,
    emfile,
    enfile,
    // What is wrong with settings.
    settings_not_a_map,
    unknown_setting,
    invalid_setting,
}
