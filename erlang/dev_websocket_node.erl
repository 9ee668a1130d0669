%%% @doc Calls of HyperBEAM's core modules: options, links, ids and signatures. The stores
%%% are the business of `dev_websocket_cache'.
%%%
%%% This module also works without HyperBEAM. Options are then read from the map as it is,
%%% and nothing can be loaded or verified.
%%%
%%% Nodes of different age have different functions, so each is called only where it is
%%% exported. A call that raises counts as unknown and never ends the caller.
-module(dev_websocket_node).
-export([is_present/0, has_module/1, option/3, own_options/1, running_node/0]).
-export([loaded/2, load_within/3, ensure/2, text/1]).
-export([compute/3]).
-export([signers/2, is_valid/2, committed/2, id/2, committers/1, content_id/2, structured/2, json/1]).

%% Levels of a message that are loaded. JSON readers of clients rarely take more.
-define(MAX_DEPTH, 64).

%% @doc An option of the node message, by its name as an atom. On a node `hb_opts' also
%% finds other spellings of the name.
-spec option(atom(), term(), term()) -> term().
option(Name, Default, Opts) ->
    Own = case Opts of
        #{Name := Value} -> Value;
        _ -> Default
    end,
    call(hb_opts, get, [[Name, Own, Opts]], Own).

%% @doc Whether this VM has HyperBEAM's code, loaded or not.
-spec is_present() -> boolean().
is_present() ->
    has_module(hb_opts) andalso has_module(hb_http_server).

%% @doc Whether a module can be called. It is loaded if necessary.
-spec has_module(module()) -> boolean().
has_module(Module) ->
    erlang:module_loaded(Module) orelse element(1, code:ensure_loaded(Module)) =:= module.

%% @doc The node's own options. The options of a request may differ, but name the server
%% that took it, and the server has the node's own. A `start' hook gets the node's options
%% before there is a server.
-spec own_options(term()) -> {node, term()} | {unknown, term()}.
own_options(Opts) ->
    case option(http_server, none, Opts) of
        none -> {unknown, Opts};
        Server ->
            case server_options(Server) of
                Own when is_map(Own) -> {node, Own};
                none -> {unknown, Opts}
            end
    end.

%% @doc The options of the node that runs in this VM, from its first server.
-spec running_node() -> {ok, map()} | none.
running_node() ->
    Servers = case call(ranch, info, [[]], []) of
        Info when is_map(Info) -> maps:keys(Info);
        Info when is_list(Info) -> [Ref || {Ref, _} <- Info];
        _ -> []
    end,
    Found = [Own || Server <- lists:sort(Servers), is_binary(Server), Own <- [server_options(Server)], is_map(Own)],
    case Found of
        [Own | _] -> {ok, Own};
        [] -> none
    end.

server_options(Server) ->
    case call(hb_http_server, get_opts, [[#{http_server => Server, <<"http-server">> => Server}]], none) of
        Own when is_map(Own) -> Own;
        _ -> none
    end.

%% @doc The value of a link; links inside it stay links. A link that cannot be loaded is
%% returned as it is.
-spec ensure(term(), term()) -> term().
ensure({link, _, _} = Link, Opts) -> call(hb_cache, ensure_loaded, [[Link, Opts], [Link]], Link);
ensure(Value, _Opts) -> Value.

%% @doc A value with all of its links loaded, as far as possible. A value without links is
%% not copied.
-spec loaded(term(), term()) -> term().
loaded(Value, Opts) ->
    case has_link(Value) of
        true -> call(hb_cache, ensure_all_loaded, [[Value, Opts], [Value]], Value);
        false -> Value
    end.

has_link({link, _, _}) -> true;
has_link(Map) when is_map(Map) -> has_link_in(maps:next(maps:iterator(Map)));
has_link([Head | Tail]) -> has_link(Head) orelse has_link(Tail);
has_link(_) -> false.

has_link_in(none) -> false;
has_link_in({_, Value, Rest}) -> has_link(Value) orelse has_link_in(maps:next(Rest)).

%% @doc A value with its links opened by `Open', up to `Budget' bytes, and the bytes left.
%% Parts that do not fit, or lie deeper than 64 levels, are links. What `Open' raises is
%% raised.
-spec load_within(term(), integer(), fun((tuple()) -> term())) -> {term(), integer()}.
load_within(Value, Budget, Open) ->
    load(Value, Budget, ?MAX_DEPTH, Open).

%% @doc Let the node compute a process up to a slot, as for a request of its path.
-spec compute(binary(), non_neg_integer(), map()) -> ok | error.
compute(Id, Slot, Opts) ->
    Path = <<"/", Id/binary, "~process@1.0/compute&slot=", (integer_to_binary(Slot))/binary>>,
    case has_module(hb_ao) andalso call(hb_ao, resolve, [[#{<<"path">> => Path}, Opts]], error) of
        {ok, _} -> ok;
        _ -> error
    end.

%% @doc A number or atom as the text that the store has for it. Other terms are returned as
%% they are.
-spec text(term()) -> term().
text(Value) when is_integer(Value) -> integer_to_binary(Value);
text(Value) when is_atom(Value) -> atom_to_binary(Value, utf8);
text(Value) -> Value.

%% @doc Whether all signatures of a message are valid.
-spec is_valid(term(), term()) -> boolean().
is_valid(Msg, Opts) ->
    call(hb_message, verify, [[Msg, all, Opts], [Msg, all], [Msg]], false) =:= true.

%% @doc The addresses that signed a message, if all of its signatures are valid.
-spec signers(term(), term()) -> [binary()].
signers(Msg, Opts) ->
    case committers(Msg) of
        [] ->
            [];
        _ ->
            case is_valid(Msg, Opts) of
                true ->
                    Signers = call(hb_message, signers, [[Msg, Opts], [Msg]], []),
                    [Signer || is_list(Signers), Signer <- Signers, is_binary(Signer)];
                false ->
                    []
            end
    end.

%% @doc The part of a message that its signatures cover, or `error'.
-spec committed(map(), term()) -> {ok, map()} | error.
committed(Msg, Opts) ->
    case call(hb_message, with_only_committed, [[Msg, Opts], [Msg]], error) of
        {ok, Only} when is_map(Only) -> {ok, Only};
        _ -> error
    end.

%% @doc The addresses in the commitments of a message, not verified.
-spec committers(term()) -> [binary()].
committers(#{<<"commitments">> := Commitments}) when is_map(Commitments) ->
    lists:usort([
        Committer
     ||
        #{<<"committer">> := Committer} <- maps:values(Commitments), is_binary(Committer)
    ]);
committers(_) ->
    [].

%% @doc The id of a message, for a process message the id of the process. With one signature
%% it is the id of the commitment. With several, the node computes it.
-spec id(term(), term()) -> {ok, binary()} | error.
id(#{<<"commitments">> := Commitments} = Msg, Opts) when is_map(Commitments) ->
    case [Id || {Id, #{<<"committer">> := _}} <- maps:to_list(Commitments)] of
        [Id] when is_binary(Id) -> {ok, Id};
        _ -> computed_id(Msg, Opts)
    end;
id(Msg, Opts) when is_map(Msg) ->
    computed_id(Msg, Opts);
id(_, _) ->
    error.

%% @doc The id over all keys of a message in the form of the store, where messages inside it
%% are ids. It is `unknown' on a node without such ids.
-spec content_id(map(), map()) -> {ok, binary()} | unknown | error.
content_id(Keys, Opts) ->
    %% The ids inside it are not to be followed. Generations spell the option differently.
    Flat = Opts#{linkify_mode => discard, <<"linkify-mode">> => discard},
    case call(hb_message, id, [[Keys, none, Flat]], error) of
        Id when is_binary(Id) -> {ok, Id};
        _ ->
            case erlang:function_exported(hb_message, id, 3) of
                true -> error;
                false -> unknown
            end
    end.

%% @doc A message in the form of the store, with its types and with links.
-spec structured(map(), map()) -> {ok, map()} | error.
structured(Keys, Opts) ->
    case call(hb_message, convert, [[Keys, <<"structured@1.0">>, tabm, Opts]], error) of
        Message when is_map(Message) -> {ok, Message};
        _ -> error
    end.

%% @doc The value of a JSON text, as far as this node reads JSON.
-spec json(binary()) -> {ok, term()} | error.
json(Text) ->
    case has_module(hb_json) andalso call(hb_json, decode, [[Text]], error) of
        Failed when Failed =:= false; Failed =:= error -> error;
        Value -> {ok, Value}
    end.

computed_id(Msg, Opts) ->
    case call(hb_message, id, [[Msg, all, Opts], [Msg, all]], error) of
        Id when is_binary(Id) -> {ok, Id};
        _ -> error
    end.

%%% Private functions.

%% @doc Call the function with the first argument list whose arity this node exports.
call(_Module, _Function, [], Unknown) ->
    Unknown;
call(Module, Function, [Arguments | Older], Unknown) ->
    case erlang:function_exported(Module, Function, length(Arguments)) of
        true ->
            dev_websocket_log:safely(Function, fun() -> apply(Module, Function, Arguments) end, Unknown);
        false ->
            call(Module, Function, Older, Unknown)
    end.

load({link, _, _} = Link, Budget, Depth, Open) when Budget > 0, Depth > 0 ->
    case Open(Link) of
        {link, _, _} = Same -> {Same, Budget};
        Value -> load(Value, Budget, Depth - 1, Open)
    end;
load(Value, Budget, _Depth, _Open) when is_binary(Value), Budget =< 0 ->
    {{link, too_large, #{}}, Budget};
load(Value, Budget, _Depth, _Open) when is_binary(Value) ->
    {Value, Budget - byte_size(Value)};
load(Map, Budget, Depth, Open) when is_map(Map), Depth > 0 ->
    load_entries(maps:next(maps:iterator(Map)), Budget, Depth, Open, []);
load([_ | _] = List, Budget, Depth, Open) when Depth > 0 ->
    load_items(List, Budget, Depth, Open, []);
load(Value, Budget, _Depth, _Open) ->
    {Value, Budget - 8}.

load_entries(none, Budget, _Depth, _Open, Loaded) ->
    {maps:from_list(Loaded), Budget};
load_entries({Key, Value, Rest}, Budget, Depth, Open, Loaded) ->
    {Item, Left} = load(Value, Budget - key_bytes(Key), Depth - 1, Open),
    load_entries(maps:next(Rest), Left, Depth, Open, [{Key, Item} | Loaded]).

load_items([Head | Tail], Budget, Depth, Open, Loaded) ->
    {Item, Left} = load(Head, Budget, Depth - 1, Open),
    load_items(Tail, Left, Depth, Open, [Item | Loaded]);
load_items([], Budget, _Depth, _Open, Loaded) ->
    {lists:reverse(Loaded), Budget};
load_items(Tail, Budget, _Depth, _Open, Loaded) ->
    {lists:reverse(Loaded, Tail), Budget}.

key_bytes(Key) when is_binary(Key) -> byte_size(Key);
key_bytes(_Key) -> 8.
