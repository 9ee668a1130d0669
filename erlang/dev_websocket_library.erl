%%% @doc Finds the engine, which is the native library with its module, and checks its
%%% version.
%%%
%%% A VM keeps the engine that it loaded first, because a native library cannot be
%%% replaced. A newer copy of the device may need another version of the native functions.
%%% Its calls then return `engine_version', and one log line asks for a restart of the
%%% node.
-module(dev_websocket_library).
-export([find/0, is_missing/0, is_current/0, check_version/0, ask/2]).

%% Set after a search that found no engine.
-define(MISSING, {hb_websocket_nif, missing}).
%% Characters of a reason in a log line. It can name four paths.
-define(MAX_SHOWN, 1000).

%% @doc Find the engine, and compare its version with the one that this device needs. A
%% missing library and another version are logged once.
-spec find() -> ok | {error, term()}.
find() ->
    case search() of
        ok ->
            check_version();
        {error, Reason} ->
            log_once(missing, fun() -> log_missing(Reason) end),
            {error, Reason}
    end.

%% @doc Whether the last search found no engine. Casts then do not search again.
-spec is_missing() -> boolean().
is_missing() ->
    persistent_term:get(?MISSING, false).

%% @doc Call the engine, if it has the version of this device. The place is that of a log line
%% about an exception, which gives `error'.
-spec ask(atom(), fun(() -> Answer)) -> Answer | error | other_version.
ask(Place, Call) ->
    case is_current() of
        true -> dev_websocket_log:safely(Place, Call, error);
        false -> other_version
    end.

%% @doc Search the engine: loaded already, else in the resources of this module's archive,
%% else on the code path.
search() ->
    case erlang:function_exported(hb_websocket_nif, load, 0) of
        true ->
            hb_websocket_nif:load();
        false ->
            case load_from_archive() orelse load_from_path() of
                true ->
                    persistent_term:erase(?MISSING),
                    hb_websocket_nif:load();
                false ->
                    persistent_term:put(?MISSING, true),
                    {error, {engine_not_loaded, no_module}}
            end
    end.

%% @doc Newer nodes unpack the resources of a device into a folder, and rename its modules.
%% The name of this module finds the folder. The module that knows it has had two names.
load_from_archive() ->
    lists:any(
        fun(Archive) ->
            try Archive:implementation_dir(?MODULE) of
                Dir ->
                    File = filename:join([Dir, "ebin", "hb_websocket_nif"]),
                    filelib:is_regular(File ++ ".beam") andalso
                        element(1, code:load_abs(File)) =:= module
            catch
                %% Most nodes have no such module, or no archive of this device.
                _:_ -> false
            end
        end,
        [hb_device_archive, hb_ao_device]
    ).

load_from_path() ->
    element(1, code:ensure_loaded(hb_websocket_nif)) =:= module.

%% @doc The version of the native functions that this device calls: the same number as in
%% native/dev_websocket_nif/src/lib.rs.
interface() -> 5.

%% @doc Whether the engine is loaded and has the version of this device. This costs almost
%% nothing.
-spec is_current() -> boolean().
is_current() ->
    engine_interface() =:= interface().

%% @doc Compare the version of the loaded engine with the one that this device needs. A
%% difference is logged once.
-spec check_version() -> ok | {error, {engine_version, map()}}.
check_version() ->
    case is_current() of
        true ->
            ok;
        false ->
            Versions = #{device => interface(), engine => engine_interface()},
            log_once(engine_version, fun() -> log_version(Versions) end),
            {error, {engine_version, Versions}}
    end.

%% @doc The version of the engine, or 0 for one from before the first number. Such an engine
%% lacks the function, or only its stub answers.
engine_interface() ->
    try hb_websocket_nif:interface() of
        Version when is_integer(Version) -> Version;
        _ -> 0
    catch
        error:undef -> 0
    end.

%% @doc Many callers can find the same fault at once. The process that gets the name logs
%% it, for all versions of the device in this VM that have the same interface.
log_once(Event, Log) ->
    _ = is_logged(Event) orelse spawn(fun() -> log_first(Event, Log) end),
    ok.

log_first(Event, Log) ->
    try register(hb_websocket_library_log, self()) of
        true -> is_logged(Event) orelse log_and_note(Event, Log)
    catch
        error:badarg -> ok
    end.

log_and_note(Event, Log) ->
    persistent_term:put({hb_websocket_nif, {Event, interface()}}, true),
    Log().

is_logged(Event) ->
    persistent_term:get({hb_websocket_nif, {Event, interface()}}, false).

log_version(#{device := Device, engine := Engine}) ->
    dev_websocket_log:log(
        error,
        #{event => engine_version, device => Device, engine => Engine},
        "The WebSocket device (interface ~b) does not work with the engine in this VM (interface ~b). "
        "Restart the node with both from the same package.",
        [Device, Engine]
    ).

log_missing({engine_not_loaded, Reason}) ->
    Text = shown(Reason),
    dev_websocket_log:log(
        error,
        #{event => engine_not_loaded, reason => Text},
        "The WebSocket device has no engine: ~ts. Build the native library for this machine, or install one that fits.",
        [Text]
    ).

%% @doc The reason in one line: the text of the system, if there is one.
shown({_, [Character | _] = Text}) when is_integer(Character) -> one_line(Text);
shown(no_module) -> "the module hb_websocket_nif is not on the code path";
shown({no_library, Files}) -> one_line(["no library at ", lists:join(".so, ", Files), ".so"]);
shown(Reason) -> one_line(io_lib:format("~0tp", [Reason])).

one_line(Text) ->
    lists:sublist([Character || Character <- lists:flatten(Text), Character >= $\s], ?MAX_SHOWN).
