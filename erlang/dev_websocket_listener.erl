%%% @doc The proxy of a listener: a process that gets what clients send from the
%%% engine, passes it on, and sees to it that no more than so many messages wait
%%% in the listener's mailbox.
%%%
%%% The engine hands out messages up to `inbound_queue_bytes' that are not acknowledged
%%% yet, and stops to read from clients then. The proxy acknowledges a message when
%%% it passes it on, and passes nothing on while the listener's mailbox is full. So
%%% a listener that sleeps holds back the clients, and takes no memory beyond the
%%% two bounds.
%%%
%%% Nothing is registered under a name: the engine knows the proxy. The process is
%%% a gen_server, so that a reload of this module finds it in code of the standard
%%% library and does it no harm.
-module(dev_websocket_listener).
-behaviour(gen_server).
-export([start/2, stop/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-define(MAX_QUEUE, 1000).
%% Milliseconds between two looks at a full mailbox.
-define(PAUSE, 5).

%% @doc Make a process the listener, or give it other options when it is.
-spec start(term(), term()) -> ok | {error, term()}.
start(Listener, Opts) when is_pid(Listener), node(Listener) =:= node(), is_map(Opts) ->
    case max_queue(maps:to_list(Opts), ?MAX_QUEUE) of
        {ok, MaxQueue} ->
            case is_process_alive(Listener) of
                true -> start_proxy(Listener, MaxQueue);
                false -> {error, noproc}
            end;
        {error, Reason} ->
            {error, Reason}
    end;
start(Listener, Opts) when is_map(Opts) ->
    {error, {bad_argument, {listener, Listener, <<"a process of this node">>}}};
start(_Listener, Opts) ->
    {error, {bad_argument, {options, Opts, <<"a map">>}}}.

%% @doc End a listener. When this returns, it gets no more messages.
-spec stop(term()) -> ok | {error, term()}.
stop(Listener) when is_pid(Listener), node(Listener) =:= node() ->
    case hb_websocket_nif:unlisten(Listener) of
        {ok, Proxy} ->
            try gen_server:stop(Proxy)
            catch exit:_ -> ok
            end;
        {error, not_listening} ->
            ok;
        {error, Reason} ->
            {error, Reason}
    end;
stop(Listener) ->
    {error, {bad_argument, {listener, Listener, <<"a process of this node">>}}}.

%%% The proxy.

init({Listener, MaxQueue}) ->
    %% The end of the application that called is not the end of the listener.
    group_leader(whereis(init), self()),
    Monitor = monitor(process, Listener),
    case hb_websocket_nif:listen(Listener) of
        ok ->
            {ok, #{
                listener => Listener,
                monitor => Monitor,
                max_queue => MaxQueue,
                %% Messages that the mailbox takes before it has to be looked at.
                room => 0,
                is_paused => false,
                waiting => queue:new()
            }};
        {error, Reason} ->
            {stop, {shutdown, Reason}}
    end.

handle_call({max_queue, MaxQueue}, _From, State) ->
    {reply, ok, State#{max_queue := MaxQueue, room := 0}}.

handle_cast(_Cast, State) ->
    {noreply, State}.

handle_info({inbound, Cost, Message}, #{waiting := Waiting} = State) ->
    {noreply, forward(State#{waiting := queue:in({Cost, Message}, Waiting)})};
handle_info(look_again, State) ->
    {noreply, forward(State#{is_paused := false})};
handle_info({'DOWN', Monitor, process, Listener, Reason}, #{monitor := Monitor} = State) ->
    _ = hb_websocket_nif:unlisten(Listener),
    log_end(Listener, Reason),
    {stop, normal, State};
handle_info(_Other, State) ->
    {noreply, State}.

%%% Private functions.

start_proxy(Listener, MaxQueue) ->
    %% What it has passed on it shall not keep alive.
    Options = [{spawn_opt, [{fullsweep_after, 10}]}],
    case gen_server:start(?MODULE, {Listener, MaxQueue}, Options) of
        {ok, _} -> ok;
        {error, {shutdown, {already_listening, Listener, Proxy}}} -> change(Listener, Proxy, MaxQueue);
        {error, {shutdown, {already_listening, Other, _}}} -> {error, {already_listening, Other}};
        {error, {shutdown, Reason}} -> {error, Reason};
        {error, Reason} -> {error, {fault, Reason}}
    end.

change(Listener, Proxy, MaxQueue) ->
    try gen_server:call(Proxy, {max_queue, MaxQueue})
    catch
        exit:Reason ->
            case is_process_alive(Proxy) of
                true -> {error, {fault, Reason}};
                false -> start_proxy(Listener, MaxQueue)
            end
    end.

max_queue([], MaxQueue) ->
    {ok, MaxQueue};
max_queue([{Key, MaxQueue} | Opts], _) when Key =:= max_queue; Key =:= <<"max_queue">> ->
    case is_integer(MaxQueue) andalso MaxQueue > 0 of
        true -> max_queue(Opts, MaxQueue);
        false -> {error, {bad_argument, {max_queue, MaxQueue, <<"a number of messages from 1 on">>}}}
    end;
max_queue([{Key, _} | _], _) ->
    {error, {bad_argument, {option, Key, <<"max_queue">>}}}.

forward(#{is_paused := true} = State) ->
    State;
forward(#{waiting := Waiting, room := Room, listener := Listener, max_queue := MaxQueue} = State) ->
    case queue:out(Waiting) of
        {empty, _} ->
            State;
        {{value, {Cost, Message}}, Rest} when Room > 0 ->
            Listener ! Message,
            _ = hb_websocket_nif:acknowledge(Cost),
            forward(State#{waiting := Rest, room := Room - 1});
        {{value, _}, _} ->
            case room(Listener, MaxQueue) of
                0 ->
                    _ = erlang:send_after(?PAUSE, self(), look_again),
                    State#{is_paused := true};
                Free ->
                    forward(State#{room := Free})
            end
    end.

%% @doc What a process died of may hold anything, and is in its own report.
log_end(Listener, Reason) ->
    Level =
        case Reason of
            normal -> info;
            shutdown -> info;
            {shutdown, _} -> info;
            _ -> warning
        end,
    dev_websocket_log:log(
        Level,
        #{event => lost_listener, listener => Listener},
        "The WebSocket server has lost who hears its clients: ~0tp has ended.",
        [Listener]
    ).

%% @doc How many more messages may wait there. The end of a process that is gone
%% is about to be told.
room(Listener, MaxQueue) ->
    case process_info(Listener, message_queue_len) of
        {message_queue_len, Length} -> max(0, MaxQueue - Length);
        undefined -> 0
    end.
