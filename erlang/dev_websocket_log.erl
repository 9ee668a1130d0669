%%% @doc What the device and its engine tell whoever runs the node, by `logger'.
%%%
%%% Each event has a line for people and metadata for programs: `event', its name,
%%% `application', and what it is about (`peer', `connection', `reason', ..). Never
%%% what a client or a caller sent.
%%%
%%% The engine's events come through a process of their own, the reader. It has one
%%% batch at a time, so while the log is slow they wait in the engine, within a
%%% bound. It is known to the engine and registered under no name, and every call of
%%% the device that asks the engine something sees to it that there is one. While it
%%% waits, nothing of this module is on its stack, so that a reload does it no harm.
%%%
%%% No domain is set: the handler that writes to the terminal leaves out all
%%% domains but its own. Levels go by the module `dev_websocket', whatever the
%%% modules are called on this node.
-module(dev_websocket_log).
-export([attend/0, log/4, none_yet/0, some/5]).
-export([init/0, read/0]).

%% Lines of one kind in so many milliseconds.
-define(MAX_LINES, 10).
-define(PERIOD, 5000).

%% @doc See to it that somebody reads what the engine tells. Never raises.
-spec attend() -> ok.
attend() ->
    _ = try
        hb_websocket_nif:is_log_read() =:= false andalso proc_lib:start(?MODULE, init, [])
    catch
        _:_ -> ok
    end,
    ok.

%% @doc Log a line of the device itself, also when nothing is there to log it yet.
-spec log(logger:level(), map(), string(), [term()]) -> ok.
log(Level, Event, Format, Arguments) ->
    try logger:log(Level, Format, Arguments, maps:merge(Event, application()))
    catch _:_ -> ok
    end.

%% @doc The account of `some/5' before its first line.
-spec none_yet() -> {integer(), non_neg_integer()}.
none_yet() -> {erlang:monotonic_time(millisecond), 0}.

%% @doc Log a line that may come often: ten in five seconds, as the engine does. The account
%% of the lines is the caller's to keep.
-spec some({integer(), non_neg_integer()}, logger:level(), map(), string(), [term()]) -> {integer(), non_neg_integer()}.
some({Since, Count}, Level, Event, Format, Arguments) ->
    Now = erlang:monotonic_time(millisecond),
    {Begun, Written} = case Now - Since > ?PERIOD of
        true -> {Now, 0};
        false -> {Since, Count}
    end,
    _ = Written < ?MAX_LINES andalso log(Level, Event, Format, Arguments),
    {Begun, Written + 1}.

%%% The reader.

%% @doc Become the reader, if nobody was faster.
-spec init() -> ok | no_return().
init() ->
    %% The end of the application that called is not the end of the log.
    group_leader(whereis(init), self()),
    Result = hb_websocket_nif:read_log(),
    proc_lib:init_ack(ok),
    case Result of
        ok -> wait();
        {error, _} -> ok
    end.

%% @doc Log what has come.
-spec read() -> no_return().
read() ->
    receive
        {log, Events} ->
            lists:foreach(fun log/1, Events),
            _ = hb_websocket_nif:acknowledge_log();
        _ ->
            ok
    end,
    wait().

%%% Private functions.

%% @doc The engine knows it, unless it is of another version.
application() ->
    try hb_websocket_nif:application() of
        Application -> #{application => Application, mfa => {Application, start, 1}}
    catch
        error:undef -> #{}
    end.

wait() ->
    proc_lib:hibernate(?MODULE, read, []).

log({Level, Text, Metadata}) ->
    try logger:log(Level, Text, Metadata)
    catch _:_ -> ok
    end.
