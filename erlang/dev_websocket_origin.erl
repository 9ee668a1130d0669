%%% @doc Who called: the node itself, or a stranger over HTTP.
%%%
%%% Every key of a device is one URL away, with a base and a request that the
%%% caller chose. What may be published as a process's own therefore depends on
%%% marks that a caller cannot set. A call that has not all of them is taken for a
%%% forgery, and publishes nothing.
%%%
%%% A computed slot (`is_execution/3'):
%%%
%%% - The request is an assignment: signed, for the path `compute', with a slot. It
%%%   has none of the keys that the HTTP server puts into each request of a caller
%%%   (`method' at the least), be it direct, through a stack made in the URL, or on
%%%   a stored message.
%%% - The base has the private part that the node keeps beside a running state: its
%%%   hashpath, and what the node's scheduler left there when it gave the
%%%   assignment. `priv' cannot be sent or stored.
%%% - The base runs what its process says: the same devices, module and scheduler. A
%%%   base that borrows another process's message is not that process.
%%%
%%% What the node itself believes, this cannot doubt: a node that is made to compute a
%%% wrong result serves it to everybody, and it is pushed as well.
%%%
%%% A hook (`is_hook/4'): the base is the handler that the operator wrote in the
%%% node's options. A stored message has lazy links where the handler has text, and
%%% what an earlier step of a path made has a private part. A node calls its hooks
%%% with an option of its own (`hashpath' is `ignore'), which a caller cannot set.
-module(dev_websocket_origin).
-export([is_execution/3, is_hook/4, is_caller/1, transport_keys/0]).

%% What a process runs, and who puts its messages in order.
-define(DEFINITION, [
    <<"device-stack">>, <<"execution-device">>, <<"module">>, <<"scheduler">>, <<"scheduler-device">>, <<"authority">>
]).

%% @doc Whether the node computes a slot of a process.
-spec is_execution(term(), term(), term()) -> boolean().
is_execution(
    #{<<"process">> := Process, <<"priv">> := #{<<"hashpath">> := Hashpath, <<"scheduler@1.0">> := _}} = Base,
    #{<<"path">> := <<"compute">>, <<"slot">> := _, <<"commitments">> := _} = Request,
    Opts
) when is_binary(Hashpath) ->
    not is_map_key(<<"method">>, Request) andalso
        not is_caller(Request) andalso
        not has_headers(Base) andalso
        dev_websocket_node:committers(Request) =/= [] andalso
        has_definition(Base, dev_websocket_node:ensure(Process, Opts), Opts);
is_execution(_Base, _Request, _Opts) ->
    false.

%% @doc Whether the node runs one of its own hooks.
-spec is_hook(binary(), term(), term(), term()) -> boolean().
is_hook(Name, Handler, Request, Opts) when is_map(Handler) ->
    not is_map_key(<<"priv">>, Handler) andalso
        not is_map_key(<<"commitments">>, Handler) andalso
        not is_map_key(<<"method">>, Handler) andalso
        is_binary(maps:get(<<"path">>, Handler, Name)) andalso
        not is_caller(Handler) andalso
        not is_caller(Request) andalso
        dev_websocket_node:leaves_hashpath(Opts) andalso
        is_configured(Name, Handler, dev_websocket_node:option(on, #{}, Opts));
is_hook(_Name, _Handler, _Request, _Opts) ->
    false.

%% @doc Whether a message has what only a caller's request has. `method' is not
%% among it, as a hook's request has that too.
-spec is_caller(term()) -> boolean().
is_caller(#{<<"accept-bundle">> := _}) -> true;
is_caller(Request) -> not is_map(Request) orelse has_headers(Request).

%% @doc Keys of a request that tell how it came, not what it says.
-spec transport_keys() -> [binary()].
transport_keys() ->
    [
        <<"accept">>, <<"accept-bundle">>, <<"accept-codec">>, <<"accept-encoding">>, <<"accept-language">>,
        <<"authorization">>, <<"cache-control">>, <<"codec-device">>, <<"connection">>, <<"content-digest">>,
        <<"content-encoding">>, <<"content-length">>, <<"content-type">>, <<"cookie">>, <<"device">>, <<"dnt">>,
        <<"expect">>, <<"forwarded">>, <<"host">>, <<"if-match">>, <<"if-modified-since">>, <<"if-none-match">>,
        <<"keep-alive">>, <<"method">>, <<"origin">>, <<"path">>, <<"pragma">>, <<"priority">>, <<"proxy-authorization">>,
        <<"referer">>, <<"require-codec">>, <<"signature">>, <<"signature-input">>, <<"te">>, <<"transfer-encoding">>,
        <<"upgrade">>, <<"upgrade-insecure-requests">>, <<"user-agent">>, <<"via">>
    ].

%%% Private functions.

%% @doc A process message that came over HTTP keeps some keys of its request, but
%% none of these, which no signature covers.
has_headers(#{<<"host">> := _}) -> true;
has_headers(#{<<"user-agent">> := _}) -> true;
has_headers(#{<<"accept">> := _}) -> true;
has_headers(_) -> false.

%% @doc Whether a state runs what its process message says. Either may be lazy.
has_definition(Base, Process, Opts) when is_map(Process) ->
    lists:all(
        fun(Key) ->
            case {maps:find(Key, Base), maps:find(Key, Process)} of
                {Same, Same} -> true;
                {{ok, Ours}, {ok, Theirs}} ->
                    dev_websocket_node:loaded(Ours, Opts) =:= dev_websocket_node:loaded(Theirs, Opts);
                _ -> false
            end
        end,
        ?DEFINITION
    );
has_definition(_Base, _Process, _Opts) ->
    false.

%% @doc While the hook `step' runs, the node has taken it out of its options, so
%% that it does not call itself: one that is still there did not run.
is_configured(<<"step">>, #{<<"device">> := Device}, On) ->
    (is_binary(Device) orelse is_atom(Device)) andalso is_map(On) andalso
        not is_map_key(<<"step">>, On);
is_configured(Name, Handler, On) when is_map(On) ->
    case maps:find(Name, On) of
        {ok, Handlers} when is_list(Handlers) -> lists:member(Handler, Handlers);
        {ok, Handlers} when is_map(Handlers) ->
            Handlers =:= Handler orelse lists:member(Handler, maps:values(Handlers));
        _ -> false
    end;
is_configured(_Name, _Handler, _On) ->
    false.
