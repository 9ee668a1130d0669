%%% @doc The result of a computed slot as events: one of the result itself, and one
%%% of each message that the process sends.
%%%
%%% A result comes here by three ways: from the device's place in the process's
%%% own execution stack (`executed/3'), and from the node's `step' and `response'
%%% hooks. All of them say the same again when a result is read from the cache, so
%%% the engine publishes each slot of a process once, and only forward.
%%%
%%% The cheap questions come first: does anybody listen, is it a result at all, is
%%% it new. Only then is anything loaded. Nothing here raises or changes what it is
%%% given, and what is not sent is counted by the engine.
-module(dev_websocket_result).
-export([executed/3, stepped/3, responded/3]).

%% @doc The node is computing a slot, and the device stands in the stack.
-spec executed(term(), term(), term()) -> ok.
executed(Base, Request, Opts) ->
    publishing(Opts, fun() ->
        case dev_websocket_origin:is_execution(Base, Request, Opts) of
            true -> publish_execution(Base, Request, Base, Opts);
            false -> dev_websocket_engine:count_dropped(untrusted)
        end
    end).

%% @doc A step of the node: most are none of our business, and are told apart by
%% their shape alone.
-spec stepped(term(), term(), term()) -> ok.
stepped(Handler, #{
    <<"request">> := #{<<"path">> := <<"compute">>} = Request,
    <<"status">> := ok,
    <<"base">> := Base,
    <<"body">> := #{<<"results">> := _} = State
} = Step, Opts) ->
    publishing(Opts, fun() ->
        case dev_websocket_origin:is_hook(<<"step">>, Handler, Step, Opts) of
            true -> publish_step(Base, Request, State, Opts);
            false -> dev_websocket_engine:count_dropped(untrusted)
        end
    end);
stepped(_Handler, _Step, _Opts) ->
    ok.

%% @doc An answer of the node to an HTTP request.
-spec responded(term(), term(), term()) -> ok.
responded(Handler, #{
    <<"request">> := #{<<"path">> := Path},
    <<"body">> := #{<<"results">> := _, <<"at-slot">> := _} = State
} = Response, Opts) when is_binary(Path) ->
    publishing(Opts, fun() ->
        case dev_websocket_origin:is_hook(<<"response">>, Handler, Response, Opts) of
            true -> publish_response(computed_process(Path), State, Opts);
            false -> dev_websocket_engine:count_dropped(untrusted)
        end
    end);
responded(_Handler, _Response, _Opts) ->
    ok.

%%% Private functions.

publishing(Opts, Publish) ->
    try
        _ = dev_websocket_engine:adopt(Opts),
        dev_websocket_engine:has_audience() andalso Publish()
    of
        _ -> ok
    catch
        _:_ -> dev_websocket_engine:count_dropped(malformed)
    end.

%% @doc The execution of a process as a whole, of all devices of its stack, is a
%% step as well, and the one that sees every slot: its device is the process's
%% `execution-device'. Around it is the step of the process itself, which is what a
%% caller asked for, and whose base is the bare process message.
publish_step(#{<<"process">> := _} = Base, Request, State, Opts) ->
    [Device, Execution] = [
        dev_websocket_node:ensure(maps:get(Key, Base, none), Opts)
     ||
        Key <- [<<"device">>, <<"execution-device">>]
    ],
    case Device =:= Execution andalso dev_websocket_origin:is_execution(Base, Request, Opts) of
        true -> publish_execution(Base, Request, State, Opts);
        %% One device of the stack, or a caller's.
        false -> ok
    end;
publish_step(Base, _Request, #{<<"at-slot">> := _} = State, Opts) ->
    case dev_websocket_node:ensure(Base, Opts) of
        #{<<"device">> := Device} = Process when not is_map_key(<<"process">>, Process) ->
            publish_process(Process, dev_websocket_node:ensure(Device, Opts), State, Opts);
        _ ->
            ok
    end;
publish_step(_Base, _Request, _State, _Opts) ->
    ok.

%% @doc A link that cannot be loaded is the stored message's own device: one that a
%% caller named would stand there as text.
publish_process(Process, Device, State, Opts) when Device =:= <<"process@1.0">>; element(1, Device) =:= link ->
    case dev_websocket_node:id(Process, Opts) of
        {ok, Id} -> publish_state(Id, State, Opts);
        error -> ok
    end;
publish_process(_Process, _Device, _State, _Opts) ->
    ok.

publish_response({ok, Id}, State, Opts) ->
    publish_state(Id, State, Opts);
publish_response(error, _State, _Opts) ->
    dev_websocket_engine:count_dropped(untrusted).

%% @doc The process whose `compute' a request asks for, and nothing else: a path
%% that goes through anything else can end in a message that only looks like a
%% state.
computed_process(Path) ->
    Pattern = <<"^/([A-Za-z0-9_-]{43})(?:~process@1\\.0)?/compute(?:[&?][^/]*)?$">>,
    case re:run(Path, Pattern, [{capture, all_but_first, binary}]) of
        {match, [Id]} -> {ok, Id};
        nomatch -> error
    end.

%% @doc A state as the process device gives it to a caller. Its own process must be
%% the one that was asked.
publish_state(Id, #{<<"at-slot">> := AtSlot, <<"results">> := Results} = State, Opts) ->
    case dev_websocket_node:ensure(AtSlot, Opts) of
        Slot when is_integer(Slot), Slot >= 0 ->
            Wanted = hb_websocket_nif:wants_slot(Id, Slot),
            case is_wanted(Wanted) andalso is_state_of(Id, State, Opts) of
                true -> publish(Wanted, Id, Slot, State, Results, #{}, Opts);
                false -> count_unwanted(Wanted)
            end;
        _ ->
            dev_websocket_engine:count_dropped(malformed)
    end.

is_state_of(Id, State, Opts) ->
    Process = dev_websocket_node:ensure(maps:get(<<"process">>, State, none), Opts),
    Device = dev_websocket_node:ensure(maps:get(<<"device">>, State, none), Opts),
    Device =:= <<"process@1.0">> andalso dev_websocket_node:id(Process, Opts) =:= {ok, Id}.

%% @doc A process whose devices run in several passes is done with the last.
publish_execution(#{<<"pass">> := Pass, <<"passes">> := Passes}, _Request, _State, _Opts) when
    is_integer(Pass), is_integer(Passes), Pass < Passes
->
    ok;
publish_execution(#{<<"process">> := Process} = Base, Request, State, Opts) ->
    case {dev_websocket_node:id(dev_websocket_node:ensure(Process, Opts), Opts), slot(Base, Request, Opts)} of
        {{ok, Id}, {ok, Slot}} ->
            Wanted = hb_websocket_nif:wants_slot(Id, Slot),
            case is_wanted(Wanted) of
                true ->
                    Results = maps:get(<<"results">>, State, #{}),
                    publish(Wanted, Id, Slot, Base, Results, Request, Opts);
                false ->
                    count_unwanted(Wanted)
            end;
        _ ->
            dev_websocket_engine:count_dropped(malformed)
    end.

is_wanted({ok, _}) -> true;
is_wanted(_) -> false.

%% @doc The engine does not count what it was only asked about.
count_unwanted({ok, _}) -> dev_websocket_engine:count_dropped(untrusted);
count_unwanted({dropped, repeated}) -> dev_websocket_engine:count_dropped(repeated);
count_unwanted(_) -> ok.

%% @doc The slot that the assignment names. Where it is kept elsewhere and cannot be
%% loaded, it is the one after the last: a process leaves none out.
slot(Base, #{<<"slot">> := Named}, Opts) ->
    case {dev_websocket_node:ensure(Named, Opts), Base} of
        {Slot, _} when is_integer(Slot), Slot >= 0 ->
            {ok, Slot};
        {Text, _} when is_binary(Text) ->
            try {ok, binary_to_integer(Text)}
            catch error:_ -> error
            end;
        {{link, _, _}, #{<<"at-slot">> := Last}} when is_integer(Last), Last >= -1 ->
            {ok, Last + 1};
        _ ->
            error
    end.

publish({ok, MaxDataBytes}, Id, Slot, State, Unloaded, Assignment, Opts) ->
    case dev_websocket_node:loaded(Unloaded, Opts) of
        Results when is_map(Results) ->
            Path = <<"/", Id/binary, "~process@1.0/compute&slot=", (integer_to_binary(Slot))/binary>>,
            Origin = origin(Id, Slot, Path, State, Assignment, Opts),
            Plain = fun(Value, At) -> plain(Value, [<<"results">>, Path], At, MaxDataBytes) end,
            Outbox = outbox(value(<<"outbox">>, Results)),
            Events = [
                result_event(Id, Slot, Results, length(Outbox), Assignment, Origin, Plain, Opts)
                | [message_event(Id, Key, Message, Origin, Plain) || {Key, Message} <- Outbox]
            ],
            case hb_websocket_nif:publish_slot(Id, Slot, Events) of
                large -> hb_websocket_nif:publish_slot_large(Id, Slot, Events);
                Published -> Published
            end;
        _ ->
            dev_websocket_engine:count_dropped(malformed)
    end.

origin(Id, Slot, Path, State, Assignment, Opts) ->
    Known = #{process => Id, slot => Slot, path => Path},
    WithHashpath = case State of
        #{<<"priv">> := #{<<"hashpath">> := Hashpath}} when is_binary(Hashpath) -> Known#{hashpath => Hashpath};
        _ -> Known
    end,
    case dev_websocket_node:committers(Assignment) of
        [] ->
            WithHashpath;
        _ ->
            case dev_websocket_node:id(Assignment, Opts) of
                {ok, AssignmentId} -> WithHashpath#{assignment => AssignmentId};
                error -> WithHashpath
            end
    end.

result_event(Id, Slot, Results, Count, Assignment, Origin, Plain, Opts) ->
    Event = #{
        <<"type">> => <<"result">>,
        <<"process">> => Id,
        <<"slot">> => Slot,
        <<"outbox-count">> => Count
    },
    WithParts = lists:foldl(
        fun(Key, Acc) ->
            case value(Key, Results) of
                undefined -> Acc;
                Value -> Acc#{Key => Plain(Value, Key)}
            end
        end,
        Event,
        [<<"output">>, <<"error">>]
    ),
    case sender(Assignment, Opts) of
        {ok, Sender} -> {WithParts#{<<"sender">> => Sender}, Origin};
        unknown -> {WithParts, Origin}
    end.

%% @doc The sender of an outbox message is the process, whatever the message says.
message_event(Id, Key, Message, #{path := Path} = Origin, Plain) ->
    At = <<"outbox/", Key/binary>>,
    Data =
        case Plain(Message, At) of
            Map when is_map(Map) -> Map#{<<"from">> => Id, <<"process">> => Id};
            Other -> #{<<"data">> => Other, <<"from">> => Id, <<"process">> => Id}
        end,
    {Data, Origin#{from => [Id], path => <<Path/binary, "/results/", At/binary>>}}.

%% @doc Who sent the message that the slot is about. One that another process sent
%% is signed by the node, which says for whom; nobody else may.
sender(#{<<"body">> := Body}, Opts) ->
    Message = dev_websocket_node:ensure(Body, Opts),
    case dev_websocket_node:committers(Message) of
        [Signer] ->
            Pushed = is_map(Message) andalso dev_websocket_node:ensure(maps:get(<<"from-process">>, Message, none), Opts),
            case Signer =:= dev_websocket_node:option(address, none, Opts) of
                true when is_binary(Pushed) -> {ok, Pushed};
                _ -> {ok, Signer}
            end;
        _ ->
            unknown
    end;
sender(_Assignment, _Opts) ->
    unknown.

%% @doc The messages with their places: a list, or what a list is in the cache.
outbox(Messages) when is_list(Messages) ->
    Numbers = lists:seq(1, length(Messages)),
    [{integer_to_binary(Number), Message} || {Number, Message} <- lists:zip(Numbers, Messages)];
outbox(Messages) when is_map(Messages) ->
    Numbered = [
        {Number, Key, Message}
     ||
        {Key, Message} <- maps:to_list(Messages), Number <- [number(Key)], Number =/= none
    ],
    [{Key, Message} || {_, Key, Message} <- lists:sort(Numbered)];
outbox(_) ->
    [].

number(Key) when is_binary(Key) ->
    try binary_to_integer(Key)
    catch error:_ -> none
    end;
number(_) ->
    none.

%% @doc What stands under a key, written in any letter case.
value(Key, Map) ->
    case Map of
        #{Key := Value} ->
            Value;
        _ ->
            case [Value || {Name, Value} <- maps:to_list(Map), lower(Name) =:= Key] of
                [Value | _] -> Value;
                [] -> undefined
            end
    end.

%% @doc A value as the cache would give it back: keys in lower case. A binary that
%% is too large is not shipped: its size and where to get it are. The place is kept
%% as its parts, the last first: it is almost never needed.
plain(Value, Place, Key, Max) when is_binary(Value) ->
    case byte_size(Value) > Max of
        true -> #{<<"$size">> => byte_size(Value), <<"$get">> => place([Key | Place])};
        false -> Value
    end;
plain(Map, Place, Key, Max) when is_map(Map) ->
    plain_entries(maps:to_list(Map), Map, [Key | Place], Max, []);
plain([Head | Tail], Place, Key, Max) when is_list(Tail) ->
    [plain(Head, Place, Key, Max) | plain(Tail, Place, Key, Max)];
plain(Value, _Place, _Key, _Max) ->
    Value.

plain_entries([], _Map, _Place, _Max, Plain) ->
    maps:from_list(Plain);
plain_entries([{Key, Value} | Entries], Map, Place, Max, Plain) ->
    Name = lower(Key),
    %% Of two keys that differ in letter case only, the one in lower case stays.
    case Name =:= Key orelse not is_map_key(Name, Map) of
        true -> plain_entries(Entries, Map, Place, Max, [{Name, plain(Value, Place, Name, Max)} | Plain]);
        false -> plain_entries(Entries, Map, Place, Max, Plain)
    end.

%% @doc Keys that are no text have no place of their own.
place([Path]) -> Path;
place([Key | Place]) when is_binary(Key) -> <<(place(Place))/binary, "/", Key/binary>>;
place([_ | Place]) -> place(Place).

lower(Key) when is_binary(Key) ->
    case is_lower(Key) of
        true -> Key;
        false ->
            try string:lowercase(Key)
            catch error:_ -> Key
            end
    end;
lower(Key) ->
    Key.

is_lower(<<Character, Rest/binary>>) when Character < $A; Character > $Z, Character < 128 -> is_lower(Rest);
is_lower(<<>>) -> true;
is_lower(_) -> false.
