%%% @doc The version word between the device and its engine.
%%%
%%% A VM keeps the engine that it loaded first, while newer copies of the device may come
%%% in: a native library cannot be replaced. An engine of another version would take calls
%%% in another meaning, or lack them, so it is told from the right one by a number.
-module(dev_websocket_version).
-export([fits/0, check/0]).

%% The version of the native functions that this device calls: the same number as in
%% native/dev_websocket_nif/src/lib.rs.
-define(INTERFACE, 2).
%% Set once the line is written, for each version of the device in the VM.
-define(WRITTEN, {hb_websocket_nif, {engine_version, ?INTERFACE}}).
%% The name of the process that writes it.
-define(WRITER, hb_websocket_engine_version).

%% @doc Whether the engine is loaded and has the version of this device. Costs next to nothing.
-spec fits() -> boolean().
fits() ->
    engine() =:= ?INTERFACE.

%% @doc Say whether a loaded engine has the version of this device, and write to the log
%% if it has not.
-spec check() -> ok | {error, {engine_version, map()}}.
check() ->
    case engine() of
        ?INTERFACE ->
            ok;
        Engine ->
            Versions = #{device => ?INTERFACE, engine => Engine},
            _ = is_written() orelse spawn(fun() -> write_once(Versions) end),
            {error, {engine_version, Versions}}
    end.

%%% Private functions.

%% @doc The version of the engine. Those from before the first number have no such function,
%% or only its stand-in answers, because the library has none.
engine() ->
    try hb_websocket_nif:interface() of
        Version when is_integer(Version) -> Version;
        _ -> 0
    catch
        error:undef -> 0
    end.

is_written() ->
    persistent_term:get(?WRITTEN, false).

%% @doc Many can find out at once. The process that gets the name writes the line.
write_once(Versions) ->
    try register(?WRITER, self()) of
        true -> is_written() orelse write(Versions)
    catch
        error:badarg -> ok
    end.

write(#{device := Device, engine := Engine}) ->
    persistent_term:put(?WRITTEN, true),
    dev_websocket_log:log(
        error,
        #{event => engine_version, device => Device, engine => Engine},
        "The WebSocket device (interface ~b) does not work with the engine in this VM (interface ~b). "
        "Restart the node with both from the same package.",
        [Device, Engine]
    ).
