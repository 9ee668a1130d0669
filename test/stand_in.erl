%%% @doc A node's core modules for tests: its store, cache, messages and options, over
%%% recorded or written stores. The recorded ones are `slot_store_*' in test/fixtures.
%%%
%%% Signatures are not computed here. A message is valid when it and the commitment are
%%% unchanged since the test stored them (`sign/2', or a recorded process).
-module(stand_in).
-export([with/2, beside/2, recorded/1, empty/0, options/1, fault/2, no_fault/1, tear/2, no_tear/1, calls/1]).
-export([process/2, compute/4, forge/4, schedule/4, forget/3, overwrite/3, write/2, stored/2, id/0, message_id/1]).
-export([verify/3, id/3, convert/4, get/3, get_opts/1, info/0]).

-define(NODE, stand_in_node).
-define(MODULES, [
    {hb_store, stand_in_store}, {hb_cache, stand_in_cache}, {hb_ao, stand_in_ao}, {hb_message, ?MODULE},
    {hb_opts, ?MODULE}, {hb_http_server, ?MODULE}, {ranch, ?MODULE}
]).
-define(ADDRESS, <<"NODE-ADDRESS-NODE-ADDRESS-NODE-ADDRESS-NODE">>).

%%% The node in the VM.

%% @doc Run with a node that has these options. `september' has another layout.
with({Generation, Opts}, Run) ->
    ?NODE = ets:new(?NODE, [named_table, public]),
    true = ets:insert(?NODE, [{options, Opts}]),
    [load(Name, Forms) || {Name, Forms} <- modules(Generation)],
    try Run()
    after
        ets:delete(?NODE),
        %% A node beside this one leaves old code, which must be purged first.
        [begin code:purge(Name), code:delete(Name), code:purge(Name) end || {Name, _} <- ?MODULES]
    end;
with(Opts, Run) ->
    with({june, Opts}, Run).

%% @doc Run with another node for a while, in a test that has one.
beside(Node, Run) ->
    Before = ets:tab2list(?NODE),
    true = ets:delete(?NODE),
    try with(Node, Run)
    after
        ?NODE = ets:new(?NODE, [named_table, public]),
        true = ets:insert(?NODE, Before),
        [load(Name, Forms) || {Name, Forms} <- modules(june)]
    end.

%% @doc Options of a node with this store, as its requests have them.
options(Store) ->
    #{store => [Store], address => ?ADDRESS, http_server => ?ADDRESS, priv_wallet => {secret, <<"WALLET-SECRET">>}}.

modules(Generation) ->
    [
        {Name, renamed(Name, Source, [{From, To} || {To, From} <- ?MODULES, From =/= ?MODULE] ++ generation(Name, Generation))}
     ||
        {Name, Source} <- ?MODULES
    ].

%% @doc Only newer nodes have this function.
generation(hb_opts, september) -> [{info, default_message_with_env}];
%% No known node is without ids.
generation(hb_message, without_ids) -> [{id, no_id}];
generation(_, _) -> [].

renamed(Name, Source, Names) ->
    [
        case Form of
            {attribute, Anno, module, _} -> {attribute, Anno, module, Name};
            _ -> substituted(Form, maps:from_list(Names))
        end
     ||
        Form <- device_copy:forms(Source)
    ].

substituted({atom, Anno, Name}, Names) when is_map_key(Name, Names) -> {atom, Anno, maps:get(Name, Names)};
substituted({function, Anno, Name, Arity, Clauses}, Names) ->
    {function, Anno, maps:get(Name, Names, Name), Arity, substituted(Clauses, Names)};
substituted({attribute, Anno, export, Exports}, Names) ->
    {attribute, Anno, export, [{maps:get(Name, Names, Name), Arity} || {Name, Arity} <- Exports]};
substituted(Tuple, Names) when is_tuple(Tuple) -> list_to_tuple(substituted(tuple_to_list(Tuple), Names));
substituted([Head | Tail], Names) -> [substituted(Head, Names) | substituted(Tail, Names)];
substituted(Other, _Names) -> Other.

%% @doc Compiled once in a VM: a test is not to wait for that.
load(Name, Forms) ->
    Key = {?MODULE, Name, erlang:phash2(Forms)},
    Beam = case persistent_term:get(Key, none) of
        none ->
            {ok, Name, Compiled} = compile:forms(Forms, [nowarn_unused_function]),
            persistent_term:put(Key, Compiled),
            Compiled;
        Known -> Known
    end,
    {module, Name} = code:load_binary(Name, atom_to_list(Name) ++ ".beam", Beam).

%%% Stores.

%% @doc A recorded store, with the processes in it as valid as they were.
recorded(Name) ->
    Store = #{<<"table">> := Table} = empty(),
    #{store := Entries} = recorded:term("slot_store_" ++ Name),
    true = ets:insert(Table, Entries),
    [record_id(Store, Id) || {<<Id:43/binary>>, group} <- Entries],
    Store.

%% @doc The id that the real node computed for a message, for `id/3'.
record_id(#{<<"table">> := Table} = Store, Id) ->
    Keys = stored(Store, Id),
    true = ets:insert(Table, {{'#id', id_of(Keys)}, Id}).

empty() ->
    Table = ets:new(stand_in_store, [ordered_set, public]),
    #{<<"store-module">> => stand_in_store, <<"table">> => Table}.

%% @doc A function that the store calls before it answers.
fault(#{<<"table">> := Table}, Fault) -> ets:insert(Table, {'#fault', Fault}).
no_fault(#{<<"table">> := Table}) -> ets:delete(Table, '#fault').

%% @doc A function of a path and its entry: what the next looks see.
tear(#{<<"table">> := Table}, Tear) -> ets:insert(Table, {'#tear', Tear}).
no_tear(#{<<"table">> := Table}) -> ets:delete(Table, '#tear').

%% @doc How often it was asked.
calls(#{<<"table">> := Table}) -> ets:lookup_element(Table, '#calls', 2).

%% @doc Store a signed process; its id.
process(Store, Keys) ->
    Id = id(),
    Message = maps:merge(
        #{
            <<"device">> => <<"process@1.0">>, <<"type">> => <<"Process">>, <<"execution-device">> => <<"stack@1.0">>,
            <<"device-stack">> => [<<"lua@5.3a">>], <<"module">> => #{<<"body">> => <<"program">>},
            <<"scheduler">> => ?ADDRESS, <<"authority">> => ?ADDRESS, <<"random-seed">> => erlang:unique_integer([positive]),
            <<"commitments">> => #{Id => #{<<"committer">> => ?ADDRESS, <<"signature">> => Id}}
        },
        Keys
    ),
    Content = write(Store, Message),
    #{<<"table">> := Table} = Store,
    true = ets:insert(Table, {{'#signed', Id}, Content}),
    put_entry(Store, Id, {link, Content}),
    Id.

%% @doc Store the state of a slot, and its assignment unless there is one; the path.
compute(Store, Id, Slot, Results) ->
    Number = integer_to_binary(Slot),
    _ = assigned(Store, Id, Number) orelse schedule(Store, Id, Slot, #{}),
    {Keys, Inner} = flat(#{
        <<"at-slot">> => Slot, <<"device">> => <<"process@1.0">>, <<"initialized">> => <<"true">>,
        %% States of different processes are different messages.
        <<"test">> => <<Id/binary, "/", Number/binary>>, <<"results">> => Results
    }),
    [write(Store, Message) || Message <- Inner],
    %% The state has the same program as the process, by the same content ids.
    Program = maps:with(
        [
            <<"device-stack+link">>, <<"execution-device">>, <<"module+link">>, <<"module">>,
            <<"scheduler">>, <<"authority">>
        ],
        stored(Store, Id)
    ),
    put_state(Store, Id, Number, maps:merge(Keys#{<<"process+link">> => Id}, Program)).

%% @doc Put a state with other keys at a slot, as a stranger can; `none' removes a key.
forge(#{<<"table">> := Table} = Store, Id, Slot, Changes) ->
    Number = integer_to_binary(Slot),
    [{_, {link, State}}] = ets:lookup(Table, <<"computed/", Id/binary, "/slot/", Number/binary>>),
    Keys = maps:merge(stored(Store, State), Changes),
    put_state(Store, Id, Number, maps:filter(fun(_, Value) -> Value =/= none end, Keys)).

put_state(Store, Id, Number, Keys) ->
    State = put_keys(Store, Keys),
    overwrite(Store, <<"computed/", Id/binary, "/slot/", Number/binary>>, {link, State}),
    State.

%% @doc Assign a message to a slot.
schedule(Store, Id, Slot, Keys) ->
    Signer = maps:get(signer, Keys, <<"SENDER">>),
    Body = maps:merge(
        #{<<"target">> => Id, <<"n">> => Slot, <<"commitments">> => #{id() => #{<<"committer">> => Signer}}},
        maps:without([signer, timestamp], Keys)
    ),
    Assignment = write(Store, #{
        <<"slot">> => Slot, <<"process">> => Id, <<"body">> => Body,
        <<"timestamp">> => maps:get(timestamp, Keys, erlang:system_time(millisecond)),
        <<"commitments">> => #{id() => #{<<"committer">> => ?ADDRESS}}
    }),
    Number = integer_to_binary(Slot),
    overwrite(Store, <<"assignments/", Id/binary, "/", Number/binary>>, {link, Assignment}),
    Assignment.

%% @doc Remove the state of a slot.
forget(#{<<"table">> := Table}, Id, Slot) ->
    ets:delete(Table, <<"computed/", Id/binary, "/slot/", (integer_to_binary(Slot))/binary>>).

%% @doc Put something at a path, also where something is.
overwrite(Store, Path, Entry) -> put_entry(Store, Path, Entry).

%% @doc Store a message under its content's id, keys and all; the id.
write(Store, Message) ->
    {Keys, Inner} = flat(Message),
    [write(Store, Value) || Value <- Inner],
    Id = put_keys(Store, Keys),
    case Message of
        #{<<"commitments">> := Commitments} -> write_commitments(Store, Id, Commitments);
        _ -> ok
    end,
    Id.

write_commitments(Store, Id, Commitments) ->
    Group = id_of({commitments, Id}),
    put_entry(Store, Group, group),
    [
        put_entry(Store, <<Group/binary, "/", Key/binary>>, {link, write(Store, Commitment)})
     ||
        {Key, Commitment} <- maps:to_list(Commitments)
    ],
    put_entry(Store, <<Id/binary, "/commitments">>, {link, Group}).

%% @doc The keys of a message as they are stored, and the messages inside it.
flat(List) when is_list(List) ->
    Numbered = [{integer_to_binary(N), Item} || {N, Item} <- lists:zip(lists:seq(1, length(List)), List)],
    {Keys, Inner} = flat(maps:from_list(Numbered)),
    Types = [<<".=\"list\"">> | [Types || #{<<"ao-types">> := Types} <- [Keys]]],
    {Keys#{<<"ao-types">> => iolist_to_binary(lists:join(<<", ">>, Types))}, Inner};
flat(Message) ->
    Entries = maps:to_list(maps:remove(<<"commitments">>, Message)),
    Inner = [Value || {_, Value} <- Entries, is_inner(Value)],
    Types = [{Key, Type} || {Key, Value} <- Entries, Type <- [type(Value)], Type =/= none],
    Stored = [stored_key(Key, Value) || {Key, Value} <- Entries, Value =/= #{}, Value =/= [], Value =/= <<>>],
    {maps:from_list([{<<"ao-types">>, types(Types)} || Types =/= []] ++ Stored), Inner}.

is_inner(Value) -> (is_map(Value) orelse is_list(Value)) andalso Value =/= #{} andalso Value =/= [].

stored_key(Key, Value) ->
    case is_inner(Value) of
        true -> {<<Key/binary, "+link">>, message_id(Value)};
        false -> {Key, text(Value)}
    end.

%% @doc The content id of a message.
message_id(Message) ->
    {Keys, _} = flat(Message),
    id_of(Keys).

%% @doc As in the store of a node: equal values are one file, and keys are links to it.
put_keys(Store, Keys) ->
    Id = id_of(Keys),
    put_entry(Store, Id, group),
    [
        begin
            Data = <<"data/", (digest(Value))/binary>>,
            put_entry(Store, Data, {value, Value}),
            put_entry(Store, <<Id/binary, "/", Key/binary>>, {link, Data})
        end
     ||
        {Key, Value} <- maps:to_list(Keys)
    ],
    Id.

%% @doc The keys of a message in the store. This is no look at the store, which may fail.
stored(#{<<"table">> := Table}, Id) ->
    Root = followed(Table, Id),
    Prefix = <<Root/binary, "/">>,
    maps:from_list(stored(Table, Prefix, byte_size(Prefix), ets:next(Table, Prefix))).

stored(Table, Prefix, Size, Path) ->
    case Path of
        <<Prefix:Size/binary, Name/binary>> ->
            Found = [
                {Name, Value}
             ||
                binary:match(Name, <<"/">>) =:= nomatch, {_, {value, Value}} <- ets:lookup(Table, followed(Table, Path))
            ],
            Found ++ stored(Table, Prefix, Size, ets:next(Table, Path));
        _ ->
            []
    end.

followed(Table, Path) ->
    case ets:lookup(Table, Path) of
        [{_, {link, Target}}] -> followed(Table, Target);
        _ -> Path
    end.

type(Value) when is_integer(Value) -> <<"integer">>;
type(Value) when is_atom(Value) -> <<"atom">>;
type(Value) when Value =:= #{} -> <<"empty-message">>;
type([]) -> <<"empty-list">>;
type(<<>>) -> <<"empty-binary">>;
type(_) -> none.

types(Types) ->
    iolist_to_binary(lists:join(<<", ">>, [[Key, <<"=\"">>, Type, <<"\"">>] || {Key, Type} <- Types])).

text(Value) when is_integer(Value) -> integer_to_binary(Value);
text(Value) when is_atom(Value) -> atom_to_binary(Value, utf8);
text(Value) -> Value.

put_entry(#{<<"table">> := Table}, Path, Entry) ->
    true = ets:insert(Table, {Path, Entry}),
    ok.

assigned(#{<<"table">> := Table}, Id, Number) ->
    ets:member(Table, <<"assignments/", Id/binary, "/", Number/binary>>).

%% @doc An id that nothing has.
id() -> recorded:process().

id_of(Content) -> digest(term_to_binary(ordered(Content))).

ordered(Keys) when is_map(Keys) -> lists:sort(maps:to_list(Keys));
ordered(Other) -> Other.

digest(Content) ->
    Text = base64:encode(crypto:hash(sha256, Content)),
    << <<(url_safe(Character))>> || <<Character>> <= Text, Character =/= $= >>.

url_safe($+) -> $-;
url_safe($/) -> $_;
url_safe(Character) -> Character.

%%% Answers of a node's modules.

%% @doc `hb_message:verify/3': each commitment must be over this content.
verify(#{<<"commitments">> := Commitments} = Message, all, #{store := Stores}) ->
    Signed = maps:remove(<<"commitments">>, Message),
    lists:all(
        fun({Id, Commitment}) ->
            is_signed(Id, Commitment, Signed) andalso
                [] =:= [Other || #{<<"table">> := Table} <- Stores, {_, Other} <- ets:lookup(Table, {'#signed', Id}), Other =/= message_id(Signed)]
        end,
        maps:to_list(Commitments)
    ).

%% @doc Written ones sign with their id; recorded ones have a key and a long signature.
is_signed(Id, #{<<"signature">> := Id}, Signed) -> not is_map_key(<<"forged">>, Signed);
is_signed(_Id, #{<<"keyid">> := _, <<"signature">> := _, <<"committed">> := Committed}, Signed) ->
    Names = case Committed of
        List when is_list(List) -> List;
        Map when is_map(Map) -> maps:values(Map)
    end,
    lists:all(fun(Name) -> Name =:= <<"ao-types">> orelse is_map_key(Name, Signed) end, [unquoted(Name) || Name <- Names]);
is_signed(_Id, _Commitment, _Signed) -> false.

unquoted(Name) -> hd(binary:split(Name, <<"+link">>)).

%% @doc `hb_message:id/3'. A store that was recorded has other ids.
id(Message, _Committers, #{store := Stores}) ->
    Id = message_id(Message),
    Recorded = [Real || #{<<"table">> := Table} <- Stores, {_, Real} <- ets:lookup(Table, {'#id', Id})],
    hd(Recorded ++ [Id]).

%% @doc `hb_message:convert/4', for keys with their types.
convert(#{<<"ao-types">> := Types} = Keys, <<"structured@1.0">>, tabm, _Opts) ->
    stand_in_cache:structured(Types, maps:remove(<<"ao-types">>, Keys)).

%% @doc `hb_opts:get/3'.
get(Key, Default, Opts) -> maps:get(Key, Opts, Default).

%% @doc `hb_http_server:get_opts/1'.
get_opts(#{http_server := ?ADDRESS}) -> ets:lookup_element(?NODE, options, 2).

%% @doc `ranch:info/0': the servers of the node.
info() -> #{?ADDRESS => #{}}.
