%%% @doc The node whose cache is read, and its options: those that it said when it started,
%%% or those of the server that runs in this VM. Never those of a caller.
%%%
%%% The options hold a private key. They stay in here and in the cache.
-module(dev_websocket_source).
-export([new/1, name/1, open/2, find/1, search/3]).

%% Pause between two searches for a node, in milliseconds.
-define(SEARCH, 1_000).
%% Options of a node may change: they are asked for again after this, in milliseconds.
-define(REFRESH, 30_000).

-type source() :: map().
-type cache() :: dev_websocket_cache:cache() | none.
-export_type([source/0]).

%% @doc No node is known yet.
-spec new(integer()) -> source().
new(Now) ->
    #{name => no_node, opts => none, searched => Now - ?SEARCH}.

%% @doc Where results come from, as `info' tells it.
-spec name(source()) -> cache | no_node | no_local_store.
name(#{name := Name}) -> Name.

%% @doc The cache of a node with these options.
-spec open(term(), source()) -> {cache(), source()}.
open(Opts, Source) ->
    case dev_websocket_cache:open(Opts) of
        {ok, Cache} -> {Cache, Source#{opts := Opts, name := cache}};
        {error, Reason} -> {none, Source#{name := Reason}}
    end.

%% @doc Look for a node that runs.
-spec find(source()) -> {cache(), source()}.
find(Source) ->
    case dev_websocket_node:running_node() of
        {ok, Opts} -> open(Opts, Source);
        none -> {none, Source}
    end.

%% @doc Look for a node, or ask the known one for its options again, if it is time.
-spec search(integer(), cache(), source()) -> {cache(), source()}.
search(Now, none, #{searched := Searched} = Source) when Now - Searched >= ?SEARCH ->
    find(Source#{searched := Now});
search(Now, Cache, #{searched := Searched, opts := Opts} = Source) when Cache =/= none, Now - Searched >= ?REFRESH ->
    Asked = Source#{searched := Now},
    case dev_websocket_node:own_options(Opts) of
        {node, Own} -> open(Own, Asked);
        {unknown, _} -> {Cache, Asked}
    end;
search(_Now, Cache, Source) ->
    {Cache, Source}.
