%%% @doc The Erlang side of the end-to-end tests: a VM that does what it is told,
%%% line by line, until its standard input ends.
%%%
%%% A line is an Erlang expression, as a caller of the device would write it. The
%%% answer is one line, `=> ' and the value as JSON, so that whatever else the VM
%%% prints can be told from it.
-module(e2e_vm).
-export([main/0, burst/4, settle/1]).
-export([start_casting/1, start_casting/2, stop_casting/0, flood/3, flood_until_dropped/2]).
-export([upgrade/1, reload_engine/0]).
-export([echo/0, sleeper/1, wake/1, unlisten/0]).

%% Who starts this VM waits at most as long for the answer itself.
-define(SETTLE_DEADLINE, 60000).

main() ->
    ok = io:setopts(user, [{encoding, unicode}, binary]),
    spawn(fun loop/0).

%% @doc Cast from several processes at once, and say how many microseconds that
%% took. The data is `Process:Number', each process counts from 1.
burst(Topic, Processes, Each, Padding) ->
    Pad = binary:copy(<<"x">>, Padding),
    Started = erlang:monotonic_time(microsecond),
    Monitors = [
        element(2, spawn_monitor(fun() -> cast_each(Topic, Process, 1, Each, Pad) end))
     ||
        Process <- lists:seq(1, Processes)
    ],
    [
        receive
            {'DOWN', Monitor, process, _, Reason} -> normal = Reason
        end
     ||
        Monitor <- Monitors
    ],
    erlang:monotonic_time(microsecond) - Started.

%% @doc Wait until a count or gauge of `stats/0' fits, and give the last one.
settle(Fits) ->
    settle(Fits, erlang:monotonic_time(millisecond) + ?SETTLE_DEADLINE).

%% @doc Cast in the background: a message every millisecond or so, whose data is its
%% number, from 1, and a last one at the end.
start_casting(Topic) ->
    Caster = spawn(fun() -> cast_on(Topic, 0) end),
    register(e2e_caster, Caster),
    ok.

%% @doc The same, with so many messages a second, as exactly as the clock allows.
start_casting(Topic, Rate) ->
    Started = erlang:monotonic_time(millisecond),
    Caster = spawn(fun() -> cast_at(Topic, 0, Rate, Started) end),
    register(e2e_caster, Caster),
    ok.

%% @doc End that, and say how many there were.
stop_casting() ->
    Caster = whereis(e2e_caster),
    Caster ! {stop, self()},
    receive
        {cast, Caster, Count} -> Count
    after ?SETTLE_DEADLINE -> error(no_caster)
    end.

%% @doc Cast so many messages of so many bytes, a mebibyte at a time: the next once the
%% writers are done with the last.
flood(Topic, Count, Bytes) ->
    Message = #{<<"topic">> => Topic, <<"data">> => binary:copy(<<"x">>, Bytes)},
    flood_on(Message, Count, max(1, 1048576 div Bytes)).

%% @doc Cast messages of so many bytes until a client that does not read misses one. What
%% a server does then does not wait for the client, so the test must be there at once.
flood_until_dropped(Topic, Bytes) ->
    Before = dropped(dev_websocket:stats()),
    flood_until(fun() -> dropped(dev_websocket:stats()) > Before end, Topic, Bytes).

%% @doc Load a changed version of each module of the device, and say which they are.
%% The one before the last is purged as a release upgrade does it: when nobody runs it
%% any more.
upgrade(Version) ->
    Modules = [Module || {Module, _} <- code:all_loaded(), lists:prefix("dev_websocket", atom_to_list(Module))],
    [
        begin
            {ok, {_, [{abstract_code, {_, Forms}}]}} = beam_lib:chunks(object_code(Module), [abstract_code]),
            {ok, Module, Beam} = compile:forms(with_attribute(Forms, {attribute, 1, e2e_version, Version})),
            ok = purge_softly(Module),
            {module, Module} = code:load_binary(Module, "upgraded", Beam),
            [Version] = proplists:get_value(e2e_version, Module:module_info(attributes)),
            ok = purge_softly(Module),
            false = erlang:check_old_code(Module)
        end
     ||
        Module <- Modules
    ],
    Modules.

%% @doc Take the module of the library away, with all of its code, and load it again.
reload_engine() ->
    _ = code:purge(hb_websocket_nif),
    true = code:delete(hb_websocket_nif),
    _ = code:purge(hb_websocket_nif),
    {module, hb_websocket_nif} = code:ensure_loaded(hb_websocket_nif),
    ok.

%% @doc Listen, and send everything back to where it came from.
echo() ->
    listen(fun echo_loop/0, #{}).

%% @doc Listen, and sleep until `wake/1'.
sleeper(MaxQueue) ->
    listen(
        fun() ->
            receive
                {wake, From, Count} -> From ! {heard, self(), hear(Count, 0)}
            end
        end,
        #{max_queue => MaxQueue}
    ).

%% @doc Let the sleeper hear so many messages, and say how many bytes they had.
wake(Count) ->
    Listener = whereis(e2e_listener),
    Listener ! {wake, self(), Count},
    receive
        {heard, Listener, Bytes} -> Bytes
    after ?SETTLE_DEADLINE -> error(not_heard)
    end.

%% @doc End the listener in whatever it does.
unlisten() ->
    case whereis(e2e_listener) of
        undefined ->
            ok;
        Listener ->
            ok = dev_websocket:unlisten(Listener),
            Monitor = monitor(process, Listener),
            exit(Listener, kill),
            receive
                {'DOWN', Monitor, process, Listener, _} -> ok
            end
    end.

%%% Private functions.

listen(Loop, Opts) ->
    Listener = spawn(Loop),
    register(e2e_listener, Listener),
    dev_websocket:listen(Listener, Opts).

echo_loop() ->
    receive
        {dev_websocket, Connection, Payload} ->
            % A client that left, or broke the protocol, is gone before its answer.
            case dev_websocket:send(Connection, Payload) of
                ok -> ok;
                {error, no_connection} -> ok
            end,
            echo_loop()
    end.

hear(0, Bytes) ->
    Bytes;
hear(Count, Bytes) ->
    receive
        {dev_websocket, _, {_, Payload}} -> hear(Count - 1, Bytes + byte_size(Payload))
    end.

object_code(Module) ->
    filename:join([code:lib_dir(dev_websocket), "ebin", atom_to_list(Module)]).

with_attribute([{attribute, _, module, _} = Module | Forms], Attribute) ->
    [Module, Attribute | Forms];
with_attribute([Form | Forms], Attribute) ->
    [Form | with_attribute(Forms, Attribute)].

purge_softly(Module) ->
    case code:soft_purge(Module) of
        true -> ok;
        false -> purge_softly(Module)
    end.

cast_on(Topic, Count) ->
    {ok, <<"OK">>} = dev_websocket:cast(#{<<"topic">> => Topic, <<"data">> => Count + 1}, #{}),
    receive
        {stop, From} ->
            {ok, <<"OK">>} = dev_websocket:cast(#{<<"topic">> => Topic, <<"data">> => Count + 2}, #{}),
            From ! {cast, self(), Count + 2}
    after 1 ->
        cast_on(Topic, Count + 1)
    end.

cast_at(Topic, Count, Rate, Started) ->
    Due = (erlang:monotonic_time(millisecond) - Started) * Rate div 1000,
    [
        {ok, <<"OK">>} = dev_websocket:cast(#{<<"topic">> => Topic, <<"data">> => Number}, #{})
     ||
        Number <- lists:seq(Count + 1, Due)
    ],
    receive
        {stop, From} ->
            {ok, <<"OK">>} = dev_websocket:cast(#{<<"topic">> => Topic, <<"data">> => Due + 1}, #{}),
            From ! {cast, self(), Due + 1}
    after 1 ->
        cast_at(Topic, Due, Rate, Started)
    end.

flood_until(Is, Topic, Bytes) ->
    ok = flood(Topic, 1, Bytes),
    Is() orelse flood_until(Is, Topic, Bytes),
    ok.

dropped(#{<<"dropped_slow">> := Slow, <<"dropped_disconnected">> := Disconnected}) -> Slow + Disconnected.

flood_on(_Message, 0, _AtATime) ->
    ok;
flood_on(Message, Count, AtATime) ->
    Now = min(Count, AtATime),
    [{ok, <<"OK">>} = dev_websocket:cast(Message, #{}) || _ <- lists:seq(1, Now)],
    _ = settle(fun(#{<<"publish_queued_bytes">> := Waiting}) -> Waiting =:= 0 end),
    flood_on(Message, Count - Now, AtATime).

%% Looks again and again: no event tells that a counter has changed.
settle(Fits, Deadline) ->
    Stats = dev_websocket:stats(),
    case Fits(Stats) of
        true ->
            Stats;
        false ->
            case erlang:monotonic_time(millisecond) < Deadline of
                true ->
                    timer:sleep(5),
                    settle(Fits, Deadline);
                false ->
                    error({not_settled, Stats})
            end
    end.

cast_each(_Topic, _Process, Number, Each, _Pad) when Number > Each ->
    ok;
cast_each(Topic, Process, Number, Each, Pad) ->
    Data = <<(integer_to_binary(Process))/binary, ":", (integer_to_binary(Number))/binary>>,
    {ok, <<"OK">>} = dev_websocket:cast(#{<<"topic">> => Topic, <<"data">> => Data, <<"body">> => Pad}, #{}),
    cast_each(Topic, Process, Number + 1, Each, Pad).

loop() ->
    case io:get_line(user, "") of
        Line when is_binary(Line) ->
            io:put_chars(user, ["=> ", json(answer(Line)), $\n]),
            loop();
        _ ->
            halt(0)
    end.

answer(Line) ->
    try
        {ok, Tokens, _} = erl_scan:string(unicode:characters_to_list(Line)),
        {ok, Expressions} = erl_parse:parse_exprs(Tokens),
        {value, Value, _} = erl_eval:exprs(Expressions, erl_eval:new_bindings()),
        #{ok => Value}
    catch
        Class:Reason ->
            #{error => unicode:characters_to_binary(io_lib:format("~0tp", [{Class, Reason}]))}
    end.

%% @doc Tuples become arrays; what has no form in JSON becomes its Erlang text.
json(Value) when is_integer(Value) -> integer_to_binary(Value);
json(true) -> <<"true">>;
json(false) -> <<"false">>;
json(Value) when is_atom(Value) -> json(atom_to_binary(Value, utf8));
json(Value) when is_binary(Value) -> [$", [escape(Character) || <<Character/utf8>> <= Value], $"];
json(Value) when is_list(Value) -> [$[, lists:join($,, [json(Item) || Item <- Value]), $]];
json(Value) when is_tuple(Value) -> json(tuple_to_list(Value));
json(Value) when is_map(Value) ->
    Pairs = [[json(Key), $:, json(Item)] || {Key, Item} <- maps:to_list(Value)],
    [${, lists:join($,, Pairs), $}];
json(Value) ->
    json(unicode:characters_to_binary(io_lib:format("~0tp", [Value]))).

escape($") -> "\\\"";
escape($\\) -> "\\\\";
escape(Character) when Character < 32 -> io_lib:format("\\u~4.16.0b", [Character]);
escape(Character) -> Character.
