%%% @doc The events of one computed slot: one of the result, and one for each message of
%%% its outbox. Pure: content of the cache goes in, events for the engine come out.
%%%
%%% The result's event tells `output', `error' and `data' of the result. `raw' and `json',
%%% which repeat these in another form, are left out. The `path' is the place to GET the
%%% same from the node, signed; `results-id' and `state-id' are content ids.
%%%
%%% The same slot gives the same events in the same order whenever it is read, so that a
%%% reader that ends in the middle can go on where it was.
-module(dev_websocket_result).
-export([outbox/1, wanted/1, result_event/4, message_event/4, path/2]).

%% Parts of a result that its event has.
-define(PARTS, [<<"output">>, <<"error">>, <<"data">>]).

%% @doc The messages that a process sends, with their places, in order. The outbox is a
%% list, or a map with numbers as keys, as the cache keeps a list.
-spec outbox(term()) -> [{binary(), term()}].
outbox(Messages) when is_list(Messages) ->
    numbered(Messages, 1);
outbox(Messages) when is_map(Messages) ->
    Numbered = [
        {Number, Key, Message}
     ||
        {Key, Message} <- maps:to_list(Messages), Number <- [number(Key)], Number =/= none
    ],
    [{Key, Message} || {_, Key, Message} <- lists:sort(Numbered)];
outbox(_) ->
    [].

%% @doc The parts of a result that its event needs, and that have to be loaded.
-spec wanted(map()) -> map().
wanted(Results) ->
    maps:from_list([
        {Key, Value}
     ||
        Key <- [<<"outbox">> | ?PARTS], {ok, Value} <- [value(Key, Results)]
    ]).

%% @doc The event of a result, `Count' messages of which follow. Values of more than
%% `Max' bytes are replaced by their size and their place.
-spec result_event(map(), map(), non_neg_integer(), pos_integer()) -> {map(), map()}.
result_event(#{process := Id, slot := Slot} = Facts, Results, Count, Max) ->
    Path = path(Id, Slot),
    Known = [{<<"sender">>, sender}, {<<"results-id">>, results_id}, {<<"state-id">>, state}],
    Event = maps:from_list(
        [{Name, maps:get(Key, Facts)} || {Name, Key} <- Known, is_map_key(Key, Facts)] ++
        [
            {Key, plain(Value, [<<"results">>, Path], Key, Max)}
         ||
            Key <- ?PARTS, {ok, Value} <- [value(Key, Results)]
        ]
    ),
    {
        Event#{
            <<"type">> => <<"result">>,
            <<"process">> => Id,
            <<"slot">> => Slot,
            <<"outbox-count">> => Count
        },
        origin(Facts, Path)
    }.

%% @doc The event of a message of the outbox. Its sender is the process, whatever the
%% message says.
-spec message_event(map(), binary(), term(), pos_integer()) -> {map(), map()}.
message_event(#{process := Id, slot := Slot} = Facts, Key, Message, Max) ->
    Path = path(Id, Slot),
    At = <<"outbox/", Key/binary>>,
    Data =
        case plain(Message, [<<"results">>, Path], At, Max) of
            Map when is_map(Map) -> Map#{<<"from">> => Id, <<"process">> => Id};
            Other -> #{<<"data">> => Other, <<"from">> => Id, <<"process">> => Id}
        end,
    Origin = origin(Facts, <<Path/binary, "/results/", At/binary>>),
    {Data, Origin#{from => [Id]}}.

%% @doc Where the node answers with a slot.
-spec path(binary(), non_neg_integer()) -> binary().
path(Id, Slot) ->
    <<"/", Id/binary, "~process@1.0/compute&slot=", (integer_to_binary(Slot))/binary>>.

%%% Private functions.

origin(#{process := Id, slot := Slot} = Facts, Path) ->
    maps:merge(#{process => Id, slot => Slot, path => Path}, maps:with([assignment], Facts)).

%% @doc An improper end of a list is no message.
numbered([Message | Rest], Number) -> [{integer_to_binary(Number), Message} | numbered(Rest, Number + 1)];
numbered(_, _Number) -> [].

number(Key) when is_binary(Key) ->
    try binary_to_integer(Key)
    catch error:_ -> none
    end;
number(_) ->
    none.

%% @doc The value of a key in any letter case.
value(Key, Map) ->
    case Map of
        #{Key := Value} ->
            {ok, Value};
        _ ->
            case [Value || {Name, Value} <- maps:to_list(Map), lower(Name) =:= Key] of
                [Value | _] -> {ok, Value};
                [] -> none
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
%% A part that was too large to load.
plain({link, _, _}, Place, Key, _Max) ->
    #{<<"$get">> => place([Key | Place])};
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
