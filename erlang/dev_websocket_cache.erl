%%% @doc The slots in the node's own cache, as the only source of process results. This
%%% module computes nothing, asks no other node and writes nothing: it reads local stores.
%%%
%%% Three generations of nodes keep the same data in different places:
%%%
%%% | | June 2025 | September 2025 | 2026 |
%%% |---|---|---|---|
%%% | state of slot n | `computed/<id>/slot/<n>' | the same | the same, or an edge that `hb_cache:read_resolved/3' finds |
%%% | its results | the key `results+link' of the state | the same | the same, or in the state |
%%% | assignment | `assignments/<id>/<n>' | `~scheduler@1.0/assignments/<id>/<n>' | the same |
%%%
%%% Only core modules (`hb_store', `hb_cache', `hb_message') are called. Keys of a message
%%% are read one by one: reading the id of a state's results is milliseconds faster than
%%% reading the state.
%%%
%%% A call raises when a store fails or a message is only half written, as the node writes
%%% asynchronously. The caller tries again later. Not every half written message raises:
%%% `dev_websocket_whole' proves content before it is published.
-module(dev_websocket_cache).
-export([open/1, is_id/1, has_slot/3, is_scheduled/3, newest_slot/3, later_slot/4]).
-export([state/3, assignment/3, results/2, is_stored/2, path/1, place/2]).
-export([reference/3, text_key/3, integer_key/3]).
-export([entries/2, names/2, target/2, ensure/2]).
-export([new_source/1, source_name/1, source_options/1, open/2, find/1, refresh/3]).

%% Pause between two searches for a node, in milliseconds.
-define(SEARCH, 1_000).
%% The options of a node may change, so they are read again after this, in milliseconds.
-define(REFRESH, 30_000).

-type cache() :: map().
%% A message: its path in the store, maybe with the names of its keys, all keys as they are
%% stored, or a map with links.
-type root() :: {path, binary()} | {listed, binary(), [binary()]} | {whole, map()} | {message, map()}.
%% The content of a key: a value, or the id of a message. It is ambiguous if both exist.
-type ref() :: {value, term()} | {link, binary()} | ambiguous | none.
%% The node whose cache is read, and its options.
-type source() :: map().
-export_type([cache/0, root/0, ref/0, source/0]).

%% @doc The cache of a node with these options, if it has a local store.
-spec open(term()) -> {ok, cache()} | {error, no_node | no_local_store}.
open(Opts) when is_map(Opts) ->
    case lists:all(fun(Module) -> dev_websocket_node:has_module(Module) end, [hb_store, hb_cache, hb_message]) of
        false ->
            {error, no_node};
        true ->
            case local_stores(store, Opts) of
                [] -> {error, no_local_store};
                Stores -> {ok, cache(Stores, Opts)}
            end
    end;
open(_Opts) ->
    {error, no_node}.

%% @doc Whether a term is an id: 43 characters of base64url.
-spec is_id(term()) -> boolean().
is_id(Id) when byte_size(Id) =:= 43 -> is_base64url(Id);
is_id(_) -> false.

%% @doc Whether the state of a slot is in the cache.
-spec has_slot(cache(), binary(), non_neg_integer()) -> boolean().
has_slot(#{layout := edges} = Cache, Id, Slot) ->
    edge(Cache, Id, Slot) =/= missing;
has_slot(#{states := Stores} = Cache, Id, Slot) ->
    has(Cache, Stores, state_path(Id, Slot)).

%% @doc Whether the scheduler of this node has assigned the slot.
-spec is_scheduled(cache(), binary(), non_neg_integer()) -> boolean().
is_scheduled(#{assignments := Stores} = Cache, Id, Slot) ->
    has(Cache, Stores, assignment_path(Cache, Id, Slot)).

%% @doc The newest slot of the unbroken run that begins with `First', or `First' - 1. The
%% search doubles and halves its steps. A list of the store could be misled by one slot far
%% ahead, forged or real. The slot behind the newest is looked for again, because the store
%% may have been making its link anew.
-spec newest_slot(cache(), binary(), non_neg_integer()) -> integer().
newest_slot(Cache, Id, First) ->
    Exists = fun(Slot) -> has_slot(Cache, Id, Slot) end,
    Newest = case Exists(First) of
        false -> First - 1;
        true -> grow(Exists, First, 1)
    end,
    case Exists(Newest + 1) of
        false -> Newest;
        true -> newest_slot(Cache, Id, Newest + 1)
    end.

%% @doc Search for a slot behind a missing one, 1, 2, 4, .. and at most `Reach' slots ahead.
%% If this node schedules the process, only slots that it has assigned count, because a
%% stranger can store others.
-spec later_slot(cache(), map(), non_neg_integer(), pos_integer()) -> {ok, pos_integer()} | none.
later_slot(Cache, #{id := Id, is_scheduled_here := IsScheduledHere}, Missing, Reach) ->
    Exists = fun(Slot) ->
        has_slot(Cache, Id, Slot) andalso (not IsScheduledHere orelse is_scheduled(Cache, Id, Slot))
    end,
    ahead(Exists, Missing, 1, Reach).

%% @doc The state of a slot.
-spec state(cache(), binary(), non_neg_integer()) -> root() | missing.
state(#{layout := edges} = Cache, Id, Slot) ->
    case edge(Cache, Id, Slot) of
        missing -> missing;
        State -> {message, State}
    end;
state(#{states := Stores} = Cache, Id, Slot) ->
    at(Cache, Stores, state_path(Id, Slot)).

%% @doc The assignment of a slot, by the scheduler of this node.
-spec assignment(cache(), binary(), non_neg_integer()) -> root() | missing.
assignment(#{assignments := Stores} = Cache, Id, Slot) ->
    at(Cache, Stores, assignment_path(Cache, Id, Slot)).

%% @doc The results of a state. A state of newer nodes may contain them.
-spec results(cache(), root()) -> ref().
results(_Cache, {message, #{<<"results">> := Results}}) when is_map(Results) -> {value, Results};
results(Cache, Root) -> reference(Cache, Root, <<"results">>).

%% @doc Whether something is at a path.
-spec is_stored(cache(), binary()) -> boolean().
is_stored(#{all := All} = Cache, Path) ->
    lists:any(fun(Stores) -> has(Cache, Stores, resolved(Cache, Stores, Path)) end, All).

%% @doc The path of a message in the store.
-spec path(root()) -> {ok, binary()} | none.
path({listed, Path, _Names}) -> {ok, Path};
path({path, Path}) -> {ok, Path};
path(_) -> none.

%% @doc The path that a path leads to, with links followed.
-spec place(cache(), binary()) -> binary() | undefined.
place(#{states := Stores} = Cache, Path) ->
    resolve(Cache, Stores, Path).

%% @doc The content of a key. A message is not loaded, and only its id returned.
-spec reference(cache(), root(), binary()) -> ref().
reference(_Cache, {whole, Keys}, Key) ->
    Link = <<Key/binary, "+link">>,
    case Keys of
        #{Link := _, Key := _} -> ambiguous;
        #{Link := Id} -> {link, Id};
        #{Key := Value} -> {value, Value};
        _ -> none
    end;
reference(Cache, {listed, Path, Names}, Key) ->
    Link = <<Key/binary, "+link">>,
    case {lists:member(Link, Names), lists:member(Key, Names)} of
        {false, false} -> none;
        {true, true} -> ambiguous;
        {true, false} -> reference(value(Cache, <<Path/binary, "/", Link/binary>>), link);
        {false, true} -> reference(value(Cache, <<Path/binary, "/", Key/binary>>), value)
    end;
reference(Cache, {path, Path}, Key) ->
    At = <<Path/binary, "/", Key/binary>>,
    case {value(Cache, <<At/binary, "+link">>), value(Cache, At)} of
        {undefined, undefined} -> none;
        {undefined, Value} -> {value, Value};
        {Id, undefined} -> {link, Id};
        %% One of the two was stored by a stranger.
        {_, _} -> ambiguous
    end;
reference(#{opts := Opts} = Cache, {message, Message}, Key) ->
    case Message of
        #{Key := {link, Ref, #{<<"type">> := <<"link">>}} = Link} when is_binary(Ref) ->
            target(Cache, Link);
        #{Key := {link, _, _} = Link} ->
            {value, dev_websocket_node:text(hb_cache:ensure_loaded(Link, Opts))};
        #{Key := Value} when is_map(Value); is_list(Value) ->
            content(Value, Opts);
        #{Key := Value} ->
            {value, dev_websocket_node:text(Value)};
        _ ->
            none
    end.

reference(undefined, _Kind) -> none;
reference(Content, Kind) -> {Kind, Content}.

%% @doc The text under a key.
-spec text_key(cache(), root() | missing, binary()) -> binary() | undefined.
text_key(_Cache, missing, _Key) ->
    undefined;
text_key(Cache, {path, Path}, Key) ->
    text(Cache, <<Path/binary, "/", Key/binary>>);
text_key(Cache, {listed, Path, _Names}, Key) ->
    text(Cache, <<Path/binary, "/", Key/binary>>);
text_key(Cache, Root, Key) ->
    case reference(Cache, Root, Key) of
        {value, Value} when is_binary(Value) -> Value;
        _ -> undefined
    end.

%% @doc The integer under a key.
-spec integer_key(cache(), root() | missing, binary()) -> integer() | undefined.
integer_key(Cache, Root, Key) ->
    try binary_to_integer(text_key(Cache, Root, Key))
    catch error:_ -> undefined
    end.

%% @doc The place of a message and all its keys as they are stored, without its signatures.
%% It is `torn' if a listed key cannot be read, or the place is no id.
-spec entries(cache(), binary()) -> {binary(), map()} | torn.
entries(Cache, Path) ->
    Places = [{Stores, resolved(Cache, Stores, Path)} || Stores <- maps:get(all, Cache)],
    case [Found || {Stores, Place} <- Places, Found <- found(Cache, Stores, Place)] of
        [{Stores, Place, Listed} | _] ->
            Read = [{Name, value(Cache, Stores, <<Place/binary, "/", Name/binary>>)} || Name <- Listed -- [<<"commitments">>]],
            case is_id(Place) andalso [Name || {Name, undefined} <- Read, not is_id(Name)] of
                [] -> {Place, maps:from_list([Entry || {_, Value} = Entry <- Read, Value =/= undefined])};
                _ -> torn
            end;
        [] ->
            torn
    end.

%% @doc The id that a link leads to, if it is a link to a message.
-spec target(cache(), tuple()) -> {link, binary()} | value.
target(Cache, {link, Ref, Properties} = Link) ->
    case {is_id(Ref), Properties} of
        {true, _} -> {link, Ref};
        {false, #{<<"type">> := <<"link">>}} ->
            case value(Cache, Ref) of
                <<Id:43/binary>> -> {link, Id};
                _ -> error({not_whole, element(2, Link)})
            end;
        {false, _} -> value
    end.

%% @doc The value of a link; links inside it stay links.
-spec ensure(cache(), term()) -> term().
ensure(#{opts := Opts}, Link) ->
    hb_cache:ensure_loaded(Link, Opts).

%%% The node whose cache is read. Its options come from the node itself, never from a
%%% caller. They hold a private key, and stay in the tails server, its readers and here.

%% @doc No node is known yet.
-spec new_source(integer()) -> source().
new_source(Now) ->
    #{name => no_node, opts => none, searched => Now - ?SEARCH}.

%% @doc The source of results, as `info' names it.
-spec source_name(source()) -> cache | no_node | no_local_store.
source_name(#{name := Name}) -> Name.

%% @doc The options of the node, with all of its stores.
-spec source_options(source()) -> term().
source_options(#{opts := Opts}) -> Opts.

%% @doc Use the cache of a node with these options.
-spec open(term(), source()) -> {cache() | none, source()}.
open(Opts, Source) ->
    case open(Opts) of
        {ok, Cache} -> {Cache, Source#{opts := Opts, name := cache}};
        {error, Reason} -> {none, Source#{name := Reason}}
    end.

%% @doc Search for a node in this VM.
-spec find(source()) -> {cache() | none, source()}.
find(Source) ->
    case dev_websocket_node:running_node() of
        {ok, Opts} -> open(Opts, Source);
        none -> {none, Source}
    end.

%% @doc From time to time, search for a node, or read the options of the known one again.
-spec refresh(integer(), cache() | none, source()) -> {cache() | none, source()}.
refresh(Now, none, #{searched := Searched} = Source) when Now - Searched >= ?SEARCH ->
    find(Source#{searched := Now});
refresh(Now, Cache, #{searched := Searched, opts := Opts} = Source) when Cache =/= none, Now - Searched >= ?REFRESH ->
    Asked = Source#{searched := Now},
    case dev_websocket_node:own_options(Opts) of
        {node, Own} -> open(Own, Asked);
        {unknown, _} -> {Cache, Asked}
    end;
refresh(_Now, Cache, Source) ->
    {Cache, Source}.

%%% Private functions.

cache(Stores, Opts) ->
    Generation = generation(),
    Layout = case Generation of
        newer ->
            case erlang:function_exported(hb_cache, link_result, 4) of
                true -> edges;
                false -> paths
            end;
        _ -> paths
    end,
    #{
        generation => Generation,
        layout => Layout,
        states => or_else(local_stores(process_store, Opts), Stores),
        assignments => or_else(local_stores(scheduler_store, Opts), Stores),
        %% Content can be in each of them.
        all => lists:usort([Stores | [Own || Name <- [process_store, scheduler_store], Own <- [local_stores(Name, Opts)], Own =/= []]]),
        address => dev_websocket_node:option(address, none, Opts),
        opts => scoped(Generation, Stores, Opts)
    }.

generation() ->
    case {erlang:function_exported(hb_store, type, 3), erlang:function_exported(hb_opts, default_message_with_env, 0)} of
        {true, _} -> newer;
        {false, true} -> september;
        {false, false} -> june
    end.

%% @doc The options for loading links. They name the local stores alone.
scoped(newer, Stores, Opts) -> Opts#{<<"store">> => Stores, store => Stores};
scoped(_, Stores, Opts) -> Opts#{store => Stores}.

or_else([], Stores) -> Stores;
or_else(Own, _Stores) -> Own.

%% @doc The stores of this machine. `hb_store:scope/2' takes a list as stores, and a map as
%% options.
local_stores(Name, Opts) ->
    Stores = case dev_websocket_node:option(Name, [], Opts#{only => local, <<"only">> => local}) of
        List when is_list(List) -> List;
        Store when is_map(Store) -> [Store];
        _ -> []
    end,
    case Stores of
        [] -> [];
        _ ->
            case dev_websocket_log:safely(scope, fun() -> hb_store:scope(Stores, local) end, []) of
                Local when is_list(Local) -> Local;
                _ -> []
            end
    end.

is_base64url(<<Character, Rest/binary>>) when
    Character >= $A, Character =< $Z; Character >= $a, Character =< $z;
    Character >= $0, Character =< $9; Character =:= $-; Character =:= $_
->
    is_base64url(Rest);
is_base64url(Rest) ->
    Rest =:= <<>>.

state_path(Id, Slot) ->
    <<"computed/", Id/binary, "/slot/", (integer_to_binary(Slot))/binary>>.

assignment_path(#{generation := june}, Id, Slot) ->
    <<"assignments/", Id/binary, "/", (integer_to_binary(Slot))/binary>>;
assignment_path(_, Id, Slot) ->
    <<"~scheduler@1.0/assignments/", Id/binary, "/", (integer_to_binary(Slot))/binary>>.

grow(Exists, Last, Step) ->
    case Exists(Last + Step) of
        true -> grow(Exists, Last + Step, 2 * Step);
        false -> halve(Exists, Last, Last + Step)
    end.

%% @doc The last slot that exists. `Last' exists and `Missing' does not.
halve(_Exists, Last, Missing) when Missing - Last =< 1 -> Last;
halve(Exists, Last, Missing) ->
    Middle = (Last + Missing) div 2,
    case Exists(Middle) of
        true -> halve(Exists, Middle, Missing);
        false -> halve(Exists, Last, Middle)
    end.

ahead(_Exists, _Missing, Step, Reach) when Step > Reach -> none;
ahead(Exists, Missing, Step, Reach) ->
    case Exists(Missing + Step) of
        true -> {ok, first(Exists, Missing + Step div 2, Missing + Step)};
        false -> ahead(Exists, Missing, 2 * Step, Reach)
    end.

%% @doc The first slot that exists. `Present' exists and `Missing' does not.
first(Exists, Missing, Present) ->
    1 + halve(fun(Slot) -> not Exists(Slot) end, Missing, Present).

edge(#{opts := Opts}, Id, Slot) ->
    case hb_cache:read_resolved(Id, #{<<"path">> => <<"compute">>, <<"slot">> => Slot}, Opts) of
        {hit, {ok, State}} when is_map(State) -> State;
        {ok, State} when is_map(State) -> State;
        _ -> missing
    end.

%% @doc The id of a message that is loaded already.
content(Value, Opts) ->
    case dev_websocket_node:id(Value, Opts) of
        {ok, Id} -> {link, Id};
        error -> {value, Value}
    end.

%%% The stores.

has(#{generation := newer, opts := Opts}, Stores, Path) ->
    case hb_store:type(Stores, Path, Opts) of
        {ok, _} -> true;
        _ -> false
    end;
has(_Cache, Stores, Path) ->
    case hb_store:type(Stores, Path) of
        composite -> true;
        simple -> true;
        _ -> false
    end.

%% @doc The message at a path. The path is resolved and its keys are listed only once. A
%% store resolves each part of a path on every read, and some need a system call for each.
at(Cache, Stores, Path) ->
    Resolved = resolved(Cache, Stores, Path),
    IsId = is_id(Resolved),
    case found(Cache, Stores, Resolved) of
        %% A link that is missing for a moment is not followed.
        [_] when not IsId, map_get(generation, Cache) =/= newer -> error({not_whole, Path});
        [{_, _, []}] -> {path, Resolved};
        [{_, _, Names}] -> {listed, Resolved, Names};
        [] -> missing
    end.

%% @doc The message at a resolved path with the names of its keys, if there is one. A list of names proves that it is
%% there; asking for its type as well costs as much as reading a key.
found(Cache, Stores, Place) ->
    case listed(Cache, Stores, Place) of
        [] -> [{Stores, Place, []} || has(Cache, Stores, Place)];
        Names -> [{Stores, Place, Names}]
    end.

%% @doc A binary, from the first store that has it.
value(Cache, Path) ->
    first([value(Cache, Stores, Path) || Stores <- maps:get(all, Cache)]).

first([undefined | Rest]) -> first(Rest);
first([Value | _]) -> Value;
first([]) -> undefined.

%% @doc A binary that is not part of a proven message. Its file is named by its hash.
text(Cache, Path) ->
    first([text(Cache, Stores, Path) || Stores <- maps:get(all, Cache)]).

text(Cache, Stores, Path) ->
    case resolved(Cache, Stores, Path) of
        <<"data/", Hash:43/binary>> = Place ->
            Value = value(Cache, Stores, Place),
            _ = is_binary(Value) andalso hash(Value) =:= Hash orelse error({not_whole, Path}),
            Value;
        _ ->
            value(Cache, Stores, Path)
    end.

hash(Value) ->
    <<Hash:43/binary, _/binary>> = base64:encode(crypto:hash(sha256, Value)),
    binary:replace(binary:replace(Hash, <<"+">>, <<"-">>, [global]), <<"/">>, <<"_">>, [global]).

value(#{generation := newer, opts := Opts}, Stores, Path) ->
    binary_of(hb_store:read(Stores, Path, Opts));
value(_Cache, Stores, Path) ->
    binary_of(hb_store:read(Stores, Path)).

binary_of({ok, Value}) when is_binary(Value) -> Value;
binary_of(_) -> undefined.

resolve(#{generation := newer, opts := Opts}, Stores, Path) ->
    case hb_store:resolve(Stores, Path, Opts) of
        {ok, Resolved} -> Resolved;
        _ -> undefined
    end;
resolve(_Cache, Stores, Path) ->
    case hb_store:resolve(Stores, Path) of
        Resolved when is_binary(Resolved) -> Resolved;
        _ -> undefined
    end.

%% @doc The names in a group. The path is resolved first, because not every store follows
%% links when it lists a group.
-spec names(cache(), binary()) -> [binary()].
names(#{assignments := Stores} = Cache, Path) ->
    listed(Cache, Stores, resolved(Cache, Stores, Path)).

resolved(Cache, Stores, Path) ->
    case resolve(Cache, Stores, Path) of
        undefined -> Path;
        Resolved -> Resolved
    end.

listed(Cache, Stores, Path) ->
    Listed = case Cache of
        #{generation := newer, opts := Opts} -> hb_store:list(Stores, Path, Opts);
        _ -> hb_store:list(Stores, Path)
    end,
    case Listed of
        {ok, Names} -> [name(Name) || Name <- Names];
        _ -> []
    end.

name({Name, _}) -> Name;
name(Name) -> Name.
