%%% @doc The proxy of a listener: a process that passes on messages of clients, and keeps
%%% the listener's mailbox below a bound.
%%%
%%% The engine sends messages up to `inbound_queue_bytes' that are not acknowledged, and then
%%% stops reading from clients. The proxy acknowledges a message when it passes it on, and
%%% passes nothing on while the mailbox is full. So a listener that is slow or sleeps holds
%%% clients back, and needs no memory beyond the two bounds.
%%%
%%% The engine knows the proxy, which has no registered name. It runs below
%%% `hb_websocket_sup' as a temporary child. A killed proxy is not restarted: the next
%%% process can become the listener. When the supervisor itself ends, for example because
%%% the application takes it over, the listener gets a new proxy.
-module(dev_websocket_listener).
-behaviour(gen_server).
-export([start/2, stop/1]).
-export([start_link/2, resume/2]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-define(MAX_QUEUE, 1000).
%% Pause before a full mailbox is checked again, in milliseconds.
-define(PAUSE, 5).

%% @doc Make a process the listener, or change the options of the present one.
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

%% @doc End a listener. It gets no messages after this has returned.
-spec stop(term()) -> ok | {error, term()}.
stop(Listener) when is_pid(Listener), node(Listener) =:= node() ->
    case hb_websocket_nif:unlisten(Listener) of
        {ok, Proxy} ->
            try gen_server:stop(Proxy)
            %% The proxy has ended already, as the caller wants.
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

%% @doc Called by the supervisor.
-spec start_link(pid(), pos_integer()) -> {ok, pid()} | {error, term()}.
start_link(Listener, MaxQueue) ->
    %% Large messages that were passed on must not stay on the heap.
    gen_server:start_link(?MODULE, {Listener, MaxQueue}, [{spawn_opt, [{fullsweep_after, 10}]}]).

%% @doc Start another proxy after the supervisor has ended.
-spec resume(pid(), pos_integer()) -> ok.
resume(Listener, MaxQueue) ->
    case start(Listener, #{max_queue => MaxQueue}) =:= ok orelse not is_process_alive(Listener) of
        true ->
            ok;
        false ->
            dev_websocket_log:log(
                warning,
                #{event => lost_listener, listener => Listener},
                "Listener process ~0tp has lost its proxy; messages from clients are no longer delivered.",
                [Listener]
            )
    end.

init({Listener, MaxQueue}) ->
    process_flag(trap_exit, true),
    %% An application that stops ends all processes of its group.
    group_leader(whereis(init), self()),
    Monitor = monitor(process, Listener),
    case hb_websocket_nif:listen(Listener) of
        ok ->
            {ok, #{
                listener => Listener,
                monitor => Monitor,
                max_queue => MaxQueue,
                %% Messages that fit into the mailbox before its length is read again.
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
handle_info(check_mailbox, State) ->
    {noreply, forward(State#{is_paused := false})};
handle_info({'DOWN', Monitor, process, Listener, Reason}, #{monitor := Monitor} = State) ->
    _ = hb_websocket_nif:unlisten(Listener),
    log_exit(Listener, Reason),
    {stop, normal, State};
handle_info(_Other, State) ->
    {noreply, State}.

%% @doc The supervisor ends but the node does not: another proxy goes on.
terminate(Reason, #{listener := Listener, max_queue := MaxQueue, waiting := Waiting}) when Reason =:= shutdown; Reason =:= killed ->
    case init:get_status() of
        {stopping, _} ->
            ok;
        _ ->
            _ = hb_websocket_nif:unlisten(Listener),
            lists:foreach(fun({_Cost, Message}) -> Listener ! Message end, queue:to_list(Waiting)),
            _ = spawn(?MODULE, resume, [Listener, MaxQueue]),
            ok
    end;
terminate(_Reason, _State) ->
    ok.

%%% Private functions.

start_proxy(Listener, MaxQueue) ->
    Spec = #{
        id => {listener, make_ref()},
        start => {?MODULE, start_link, [Listener, MaxQueue]},
        restart => temporary
    },
    case dev_websocket_sup:start_child(Spec) of
        {ok, _} ->
            ok;
        {error, {shutdown, {already_listening, Listener, Proxy}}} ->
            change(Listener, Proxy, MaxQueue);
        {error, {shutdown, {already_listening, Other, _}}} ->
            {error, {already_listening, Other}};
        {error, {shutdown, Reason}} ->
            {error, Reason};
        {error, Reason} ->
            {error, {fault, Reason}}
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
        false -> {error, {bad_argument, {max_queue, MaxQueue, <<"a positive integer">>}}}
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
                    _ = erlang:send_after(?PAUSE, self(), check_mailbox),
                    State#{is_paused := true};
                Free ->
                    forward(State#{room := Free})
            end
    end.

%% @doc The line leaves out the reason, because it can hold any term. The process's own
%% crash report has it.
log_exit(Listener, Reason) ->
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
        "Listener process ~0tp exited; messages from clients are no longer delivered.",
        [Listener]
    ).

%% @doc The number of messages that still fit into the mailbox. A listener that has ended
%% has no room, and its 'DOWN' message is on the way.
room(Listener, MaxQueue) ->
    case process_info(Listener, message_queue_len) of
        {message_queue_len, Length} -> max(0, MaxQueue - Length);
        undefined -> 0
    end.
