%%% @doc The edge of a slot: its whole result as one message, in the shape that clients of AO
%%% know from aoconnect's `results' (permaweb/ao, connect/src/client/ao-core.js).
%%%
%%% The `cursor' is the slot. The `node' has `Output', `Messages', `Spawns', `Assignments' and,
%%% after an error, `Error'. A process of the legacy network has this shape itself: its device
%%% stores the answer of the compute unit in `results/json/body' or `results/raw', and that is
%%% the node. For other processes the node is made of the output and the outbox. A message is
%%% written as HyperBEAM writes it for legacy processes (`dev_json_iface'): keys other than
%%% `Target', `Data' and `Anchor' are tags, whose names have capitals. A message of the type
%%% `Process' is a spawn, because `push@1.0' starts a process for it.
%%%
%%% An edge is whole or left out: the node of a slot that is too large to load is replaced by
%%% its path. The engine does the same with an edge of more than `max_message_bytes'.
-module(dev_websocket_edge).
-export([of_slot/5]).

%% Keys of a message that are no tags of it.
-define(NO_TAGS, [<<"id">>, <<"anchor">>, <<"owner">>, <<"data">>, <<"target">>, <<"signature">>, <<"commitments">>, <<"tags">>]).

%% @doc The edge of a slot with this data of its result as an event, the bytes that are left of those that may be loaded,
%% and the messages of the outbox, of which those that are part of the edge are loaded.
-spec of_slot(dev_websocket_cache:cache(), map(), {map(), integer()}, [{binary(), term()}], pos_integer()) ->
    {{map(), map()}, integer(), [{binary(), term()}]}.
of_slot(Cache, #{results := Results} = Facts, {Result, Budget}, Outbox, Max) ->
    {Loaded, Left} = loaded(Cache, Outbox, Budget, []),
    {Node, Rest} =
        case legacy(Cache, Results, Left) of
            {ok, Known, Spare} -> {Known, Spare};
            none when Left =< 0 -> {too_large, Left};
            none -> {native(Facts, Result, Loaded, Max), Left}
        end,
    {dev_websocket_process:edge_event(Facts, Node), Rest, Loaded}.

%%% Private functions.

%% @doc The messages, loaded while they fit. What is cut off is loaded again later.
loaded(_Cache, Messages, Left, Loaded) when Messages =:= []; Left =< 0 ->
    {lists:reverse(Loaded, Messages), Left};
loaded(Cache, [{Key, Lazy} | Rest], Left, Loaded) ->
    case dev_websocket_whole:load(Cache, Lazy, Left) of
        {Message, Spare} when Spare > 0 -> loaded(Cache, Rest, Spare, [{Key, Message} | Loaded]);
        {_, Spare} -> {lists:reverse(Loaded, [{Key, Lazy} | Rest]), Spare}
    end.

%% @doc The answer of a compute unit, if the result has one.
legacy(Cache, Results, Left) ->
    case {dev_websocket_process:value(<<"json">>, Results), dev_websocket_process:value(<<"raw">>, Results)} of
        {{ok, Json}, _} -> known(dev_websocket_whole:load(Cache, Json, Left));
        {none, {ok, Raw}} -> known(dev_websocket_whole:load(Cache, Raw, Left));
        {none, none} -> none
    end.

known({_, Left}) when Left =< 0 -> none;
known({#{<<"body">> := Text}, Left}) when is_binary(Text) -> known({Text, Left});
known({Text, Left}) when is_binary(Text) ->
    case dev_websocket_node:json(Text) of
        {ok, Map} when is_map(Map) -> known({Map, Left});
        _ -> none
    end;
known({Map, Left}) when is_map(Map) ->
    Known = [
        {Name, Value}
     ||
        {Key, Name} <- [{<<"output">>, <<"Output">>}, {<<"messages">>, <<"Messages">>}, {<<"spawns">>, <<"Spawns">>},
            {<<"assignments">>, <<"Assignments">>}, {<<"error">>, <<"Error">>}],
        {ok, Value} <- [dev_websocket_process:value(Key, Map)]
    ],
    case Known of
        [] -> none;
        _ -> {ok, maps:merge(nothing(), maps:from_list(Known)), Left}
    end;
known(_) ->
    none.

nothing() ->
    #{<<"Output">> => #{}, <<"Messages">> => [], <<"Spawns">> => [], <<"Assignments">> => []}.

%% @doc The node of a process that has no compute unit.
native(Facts, Result, Outbox, Max) ->
    Plain = [{Key, dev_websocket_process:plain_message(Facts, Key, Message, Max)} || {Key, Message} <- Outbox],
    {Spawns, Messages} = lists:partition(fun is_spawn/1, [Message || {_, Message} <- Plain]),
    Output = case Result of
        #{<<"output">> := Given} -> Given;
        #{<<"data">> := Data} -> #{<<"data">> => Data};
        _ -> #{}
    end,
    Node = (nothing())#{
        <<"Output">> => Output,
        <<"Messages">> => [message(Message) || Message <- Messages],
        <<"Spawns">> => [message(Spawn) || Spawn <- Spawns]
    },
    case Result of
        #{<<"error">> := Error} -> Node#{<<"Error">> => Error};
        _ -> Node
    end.

is_spawn(#{<<"type">> := Type}) -> Type =:= <<"Process">>;
is_spawn(#{<<"tags">> := _} = Message) -> lists:any(fun is_spawn_tag/1, tags(Message));
is_spawn(_) -> false.

is_spawn_tag(#{<<"name">> := Name, <<"value">> := <<"Process">>}) -> Name =:= <<"Type">> orelse Name =:= <<"type">>;
is_spawn_tag(_) -> false.

message(Message) when is_map(Message) ->
    #{
        <<"Target">> => maps:get(<<"target">>, Message, <<>>),
        <<"Data">> => maps:get(<<"data">>, Message, <<>>),
        <<"Anchor">> => maps:get(<<"anchor">>, Message, <<>>),
        <<"Tags">> => tags(Message)
    };
message(Data) ->
    message(#{<<"data">> => Data}).

%% @doc The tags of a message: those of its list in their order, then its other keys.
tags(Message) ->
    Given = case maps:get(<<"tags">>, Message, []) of
        Tags when is_map(Tags) -> [tag(Name, Value) || {Name, Value} <- lists:sort(maps:to_list(Tags))];
        Tags when is_list(Tags) -> [Tag || #{<<"name">> := _, <<"value">> := _} = Tag <- proper(Tags)];
        _ -> []
    end,
    Given ++ [tag(Name, Value) || {Name, Value} <- lists:sort(maps:to_list(maps:without(?NO_TAGS, Message)))].

%% @doc The items of a list, also of one with an improper end.
proper([Item | Rest]) -> [Item | proper(Rest)];
proper(_) -> [].

tag(Name, Value) ->
    #{<<"name">> => capitals(Name), <<"value">> => dev_websocket_node:text(Value)}.

%% @doc The name of a tag as a header has it: each word begins with a capital.
capitals(Name) when is_binary(Name) ->
    iolist_to_binary(lists:join($-, [capital(Word) || Word <- binary:split(Name, <<"-">>, [global])]));
capitals(Name) ->
    Name.

capital(<<First, Rest/binary>>) when First >= $a, First =< $z -> <<(First - 32), Rest/binary>>;
capital(Word) -> Word.
