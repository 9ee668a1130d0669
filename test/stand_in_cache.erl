%%% @doc Stands in for a node's `hb_cache' (June and September 2025): messages are read
%%% lazily, as links with types. Loaded under that name by `stand_in'.
-module(stand_in_cache).
-export([read/2, ensure_loaded/2, ensure_all_loaded/2, structured/2]).

read(Path, #{store := Store} = Opts) ->
    case hb_store:type(Store, Path) of
        simple -> hb_store:read(Store, Path);
        composite -> {ok, message(hb_store:resolve(Store, Path), Opts)};
        not_found -> not_found
    end.

ensure_loaded({link, Id, #{<<"type">> := <<"link">>, <<"lazy">> := false}} = Link, Opts) ->
    loaded(read(Id, Opts), Link);
ensure_loaded({link, Ref, #{<<"type">> := <<"link">>}} = Link, #{store := Store} = Opts) ->
    case hb_store:read(Store, Ref) of
        {ok, Id} -> loaded(read(Id, Opts), Link);
        not_found -> throw({necessary_message_not_found, Link})
    end;
ensure_loaded({link, Ref, Typed} = Link, Opts) ->
    typed(maps:get(<<"type">>, Typed, none), loaded(read(Ref, Opts), Link));
ensure_loaded(Value, _Opts) ->
    Value.

ensure_all_loaded({link, _, _} = Link, Opts) ->
    ensure_all_loaded(ensure_loaded(Link, Opts), Opts);
ensure_all_loaded(Map, Opts) when is_map(Map) ->
    maps:map(fun(_, Value) -> ensure_all_loaded(Value, Opts) end, Map);
ensure_all_loaded([Head | Tail], Opts) ->
    [ensure_all_loaded(Head, Opts) | ensure_all_loaded(Tail, Opts)];
ensure_all_loaded(Value, _Opts) ->
    Value.

%% @doc The keys of a message with these types; messages inside it are links with ids.
structured(Text, Keys) ->
    Types = types(Text),
    Empty = [{Key, empty(Type)} || {Key, <<"empty-", Type/binary>>} <- maps:to_list(Types)],
    maps:from_list(Empty ++ [given(Name, Value, Types) || {Name, Value} <- maps:to_list(Keys)]).

%%% Private functions.

given(Name, Value, Types) ->
    Size = byte_size(Name) - 5,
    case Name of
        <<Key:Size/binary, "+link">> -> {Key, {link, Value, #{<<"type">> => <<"link">>, <<"lazy">> => false}}};
        _ -> {Name, typed(maps:get(Name, Types, none), Value)}
    end.

loaded({ok, Value}, _Link) -> Value;
loaded(not_found, Link) -> throw({necessary_message_not_found, Link}).

message(Root, #{store := Store} = Opts) ->
    Types = types(Root, Store),
    {ok, Names} = hb_store:list(Store, Root),
    Entries = [entry(Name, Root, Types, Opts) || Name <- Names, Name =/= <<"ao-types">>],
    Empty = [{Key, empty(Type)} || {Key, <<"empty-", Type/binary>>} <- maps:to_list(Types)],
    Message = maps:from_list(Empty ++ Entries),
    case Types of
        #{<<".">> := <<"list">>} ->
            [Value || {_, Value} <- lists:sort([{binary_to_integer(Key), Value} || {Key, Value} <- maps:to_list(Message)])];
        #{} ->
            Message
    end.

entry(<<"commitments">>, Root, _Types, Opts) ->
    {ok, Commitments} = read(<<Root/binary, "/commitments">>, Opts),
    {<<"commitments">>, ensure_all_loaded(Commitments, Opts)};
entry(Name, Root, Types, #{store := Store}) ->
    At = <<Root/binary, "/", Name/binary>>,
    Size = byte_size(Name) - 5,
    case Name of
        <<Key:Size/binary, "+link">> ->
            {Key, {link, At, #{<<"type">> => <<"link">>, <<"lazy">> => true}}};
        _ ->
            Lazy = #{<<"lazy">> => true, store => Store},
            Typed = case Types of
                #{Name := Type} -> Lazy#{<<"type">> => Type};
                #{} -> Lazy
            end,
            {Name, {link, At, Typed}}
    end.

types(Root, Store) ->
    case hb_store:read(Store, <<Root/binary, "/ao-types">>) of
        {ok, Text} -> types(Text);
        not_found -> #{}
    end.

types(Text) ->
    maps:from_list([
        {Key, binary:part(Quoted, 1, byte_size(Quoted) - 2)}
     ||
        Item <- binary:split(Text, <<", ">>, [global]), [Key, Quoted] <- [binary:split(Item, <<"=">>)]
    ]).

empty(<<"message">>) -> #{};
empty(<<"list">>) -> [];
empty(<<"binary">>) -> <<>>.

typed(<<"integer">>, Text) -> binary_to_integer(Text);
typed(<<"float">>, Text) -> binary_to_float(Text);
typed(<<"atom">>, Text) -> binary_to_atom(Text, utf8);
typed(_, Value) -> Value.
