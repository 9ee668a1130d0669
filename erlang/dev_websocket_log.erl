%%% @doc What the device and its engine tell whoever runs the node, by `logger'.
%%%
%%% Each event has a line for people and metadata for programs: `event', its name,
%%% `application', and what it is about (`peer', `connection', `reason', ..). Never
%%% what a client or a caller sent.
%%%
%%% The engine's events come through a process of their own, the reader. It has one
%%% batch at a time, so while the log is slow they wait in the engine, within a
%%% bound. It is known to the engine and registered under no name; every call of
%%% the device that asks the engine something sees to it that there is one.
%%%
%%% No domain is set: the handler that writes to the terminal leaves out all
%%% domains but its own. Levels go by the module `dev_websocket', whatever the
%%% modules are called on this node.
-module(dev_websocket_log).
-behaviour(gen_server).
-export([attend/0, log/4]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

%% @doc See to it that somebody reads what the engine tells. Never raises.
-spec attend() -> ok.
attend() ->
    try hb_websocket_nif:is_log_read() of
        false -> _ = gen_server:start(?MODULE, [], []);
        _ -> ok
    catch
        _:_ -> ok
    end,
    ok.

%% @doc Log a line of the device itself, also when nothing is there to log it yet.
-spec log(logger:level(), map(), string(), [term()]) -> ok.
log(Level, Event, Format, Arguments) ->
    try
        Application = hb_websocket_nif:application(),
        logger:log(Level, Format, Arguments, Event#{application => Application, mfa => {Application, start, 1}})
    catch
        _:_ -> ok
    end.

%%% The reader.

init([]) ->
    %% The end of the application that called is not the end of the log.
    group_leader(whereis(init), self()),
    case hb_websocket_nif:read_log() of
        ok -> {ok, []};
        {error, _} -> ignore
    end.

handle_call(_Request, _From, State) ->
    {reply, ok, State}.

handle_cast(_Cast, State) ->
    {noreply, State}.

handle_info({log, Events}, State) ->
    lists:foreach(fun log/1, Events),
    _ = hb_websocket_nif:acknowledge_log(),
    {noreply, State, hibernate};
handle_info(_Other, State) ->
    {noreply, State}.

%%% Private functions.

log({Level, Text, Metadata}) ->
    try logger:log(Level, Text, Metadata)
    catch _:_ -> ok
    end.
