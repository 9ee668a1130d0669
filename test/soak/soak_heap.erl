%%% @doc What the C library's allocator has given out. The engine's memory is there,
%%% and only a small part of Erlang's.
-module(soak_heap).
-export([load/1, bytes/0, trim/0]).

%% @doc Load the library; `Path' is without its extension.
load(Path) ->
    erlang:load_nif(Path, 0).

%% @doc Bytes in use, and bytes that are held.
bytes() ->
    erlang:nif_error(not_loaded).

%% @doc Give back to the system what is held and not in use, as far as it is in whole
%% pages.
trim() ->
    erlang:nif_error(not_loaded).
