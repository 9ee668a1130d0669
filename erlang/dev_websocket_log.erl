%%% @doc Log lines of the device, and the reader that logs the events of the engine.
%%%
%%% Each event is one line of text and metadata: `event', its name, `application', and
%%% details such as `peer', `connection' or `reason'. No event holds data that a client or
%%% a caller sent.
%%%
%%% The reader is a process below `hb_websocket_sup'. The engine sends it one batch at a
%%% time and waits for its acknowledgement. A slow log therefore holds back events in the
%%% engine, within a bound, and delays nothing else.
%%%
%%% Events have no domain, because the default handler of OTP hides all domains but its
%%% own. Levels are set for the module `dev_websocket', also on nodes that rename modules.
-module(dev_websocket_log).
-export([log/4, new_limit/0, log_limited/5]).
-export([safely/3, log_exception/4, count/1, hidden/2]).
-export([start_link/0, init/1, read/1]).

%% Lines of one kind per period, in milliseconds.
-define(MAX_LINES, 10).
-define(PERIOD, 5000).
%% A reader that ends waits this long for last events, in milliseconds.
-define(LINGER, 50).

-type limit() :: {integer(), non_neg_integer()}.
-export_type([limit/0]).

%% @doc Log one line of the device. This never raises, also before the logger has started:
%% the line is lost then, as there is nowhere to say so.
-spec log(logger:level(), map(), string(), [term()]) -> ok.
log(Level, Event, Format, Arguments) ->
    try logger:log(Level, Format, Arguments, maps:merge(Event, application()))
    catch _:_ -> ok
    end.

%% @doc The state of a rate limit before its first line.
-spec new_limit() -> limit().
new_limit() -> {erlang:monotonic_time(millisecond), 0}.

%% @doc Log a line unless ten were logged in the last five seconds. The caller keeps the
%% returned state for its next line.
-spec log_limited(limit(), logger:level(), map(), string(), [term()]) -> limit().
log_limited({Since, Count}, Level, Event, Format, Arguments) ->
    Now = erlang:monotonic_time(millisecond),
    {Begin, Logged} = case Now - Since > ?PERIOD of
        true -> {Now, 0};
        false -> {Since, Count}
    end,
    _ = Logged < ?MAX_LINES andalso log(Level, Event, Format, Arguments),
    {Begin, Logged + 1}.

%% @doc Call a function whose exceptions must not reach the caller. An exception is logged
%% at debug level, and the default is returned.
-spec safely(atom(), fun(() -> Result), Default) -> Result | Default.
safely(Place, Call, Default) ->
    try Call()
    catch
        Class:Reason:Stack ->
            ok = log_exception(Place, Class, Reason, Stack),
            Default
    end.

%% @doc Count an event of the reading of slots, by its name in `stats'.
-spec count(atom()) -> ok.
count(Name) ->
    _ = safely(count, fun() -> hb_websocket_nif:count_result(Name) end, ok),
    ok.

%% @doc Log a contained exception at debug level. The line names the kind of the reason and
%% the function, but no terms: they may hold the node's private key.
-spec log_exception(atom(), error | exit | throw, term(), list()) -> ok.
log_exception(Place, Class, Reason, Stack) ->
    _ = try hb_websocket_nif:count_result(exceptions)
    %% Without the library there is no counter; the line below tells of the fault.
    catch _:_ -> ok
    end,
    Kind = kind(Reason),
    Function = function(Stack),
    log(
        debug,
        #{event => exception, place => Place, class => Class, reason => Kind, function => Function},
        "The WebSocket device contained an exception in ~ts: ~ts ~ts in ~ts.",
        [Place, Class, Kind, Function]
    ).

%%% The reader.

%% @doc Called by the supervisor. A second reader is not started.
-spec start_link() -> {ok, pid()} | ignore.
start_link() ->
    proc_lib:start_link(?MODULE, init, [self()]).

%% @doc Become the reader. The process is no gen_server: that would go on without effect
%% after the code of a copy of the device is deleted, and this one ends.
-spec init(pid()) -> ok | no_return().
init(Supervisor) ->
    %% A shutdown then comes as a message, behind the batch that was sent before it.
    process_flag(trap_exit, true),
    case hb_websocket_nif:read_log() of
        ok ->
            proc_lib:init_ack({ok, self()}),
            wait(Supervisor);
        {error, _} ->
            proc_lib:init_ack(ignore)
    end.

%% @doc Log the next batch.
-spec read(pid()) -> no_return().
read(Supervisor) ->
    receive
        {log, Events} ->
            log_events(Events);
        {'EXIT', Supervisor, Reason} ->
            log_rest(),
            exit(Reason);
        _ ->
            ok
    end,
    wait(Supervisor).

%% @doc The status of a server whose state holds the private key of the node, for reports:
%% only this part of the state.
-spec hidden(gen_server:format_status(), fun((map()) -> map())) -> gen_server:format_status().
hidden(Status, Shown) ->
    maps:map(
        fun
            (state, State) -> Shown(State);
            (log, _) -> [];
            (message, _) -> hidden;
            (reason, _) -> hidden;
            (_, Value) -> Value
        end,
        Status
    ).

%%% Private functions.

%% @doc Hibernation leaves no code of this module on the stack, so it can be reloaded.
wait(Supervisor) ->
    proc_lib:hibernate(?MODULE, read, [Supervisor]).

log_events(Events) ->
    lists:foreach(fun log_event/1, Events),
    _ = hb_websocket_nif:acknowledge_log(),
    ok.

%% @doc The engine may have been stopped a moment before, and its last events are on the way.
log_rest() ->
    receive
        {log, Events} ->
            log_events(Events),
            log_rest()
    after ?LINGER -> ok
    end.

log_event({Level, Text, Metadata}) ->
    try logger:log(Level, Text, Metadata)
    %% As in `log/4': nowhere is left to say it, and the reader must go on.
    catch _:_ -> ok
    end.

%% @doc Metadata of all events. An engine of another version may lack the function.
application() ->
    try hb_websocket_nif:application() of
        Application -> #{application => Application, mfa => {Application, start, 1}}
    catch
        error:undef -> #{}
    end.

kind(Reason) when is_atom(Reason) -> Reason;
kind(Reason) when is_tuple(Reason), tuple_size(Reason) > 0, is_atom(element(1, Reason)) -> element(1, Reason);
kind(_Reason) -> other.

%% @doc The innermost function of a stack trace, without its arguments.
function([{Module, Name, Arity, _} | _]) when is_integer(Arity) ->
    unicode:characters_to_binary(io_lib:format("~ts:~ts/~b", [Module, Name, Arity]));
function([{Module, Name, Arguments, Location} | _]) ->
    function([{Module, Name, length(Arguments), Location}]);
function(_Stack) ->
    <<"unknown">>.
