%%% @doc The door to the engine: one Erlang function for each native one of
%%% `native/dev_websocket_nif', and the loading of that library.
%%%
%%% The name of this module is written into the library, so it stays the same
%%% wherever the device's own modules are copied to, under whatever names. All
%%% copies of the device share this module and the one engine behind it.
%%%
%%% Loading the module never fails. Without the library each call returns
%%% `{error, {engine_not_loaded, Reason}}', and `load/0' tries again.
%%%
%%% Calls that take a `Ref' return `ok' at once and send `{Ref, Result}' to the
%%% caller later; `dev_websocket_engine' is who waits for that.
-module(hb_websocket_nif).
-export([boot/2, start/2, stop/1, shut/2]).
-export([cast/1, cast_large/1, publish/2, publish_large/2, publish_json/2]).
-export([slot_mark/1, set_slot_mark/2, publish_slot/5, publish_slot_large/5, publish_slot_gap/4]).
-export([interest/1, watch_interest/0, count_result/1, set_tails/3]).
-export([has_audience/0, count_dropped/1]).
-export([describe/0, info/0, settings/0, protective/0, stats/0, validate/1]).
-export([listen/1, unlisten/1, acknowledge/1, send/2, send_large/2]).
-export([connection/2, connections/3, disconnect/1]).
-export([read_log/0, acknowledge_log/0, is_log_read/0]).
-export([metrics/0, register_collector/0, collect_mf/2, deregister_cleanup/1]).
-export([load/0, application/0, interface/0]).

-on_load(on_load/0).

-define(APPLICATION, dev_websocket).
-define(CRATE, "dev_websocket_nif").
-define(NOT_LOADED, {?MODULE, not_loaded}).

%% @doc Start the server if nobody ever started or stopped it in this VM, and
%% send how it is.
-spec boot(term(), term()) -> ok | {error, term()}.
boot(_Ref, _Settings) -> not_loaded().

%% @doc Start the server, or give a running one new settings.
-spec start(term(), term()) -> ok | {error, term()}.
start(_Ref, _Settings) -> not_loaded().

%% @doc Stop the server.
-spec stop(term()) -> ok | {error, term()}.
stop(_Ref) -> not_loaded().

%% @doc Close the server, because these settings have values that do not fit. It says
%% so until it is started.
-spec shut(term(), term()) -> ok | {error, term()}.
shut(_Ref, _Settings) -> not_loaded().

%% @doc Publish a message. `large' means that nothing is decided yet: the message
%% takes longer than a scheduler thread should be busy, `cast_large/1' has time.
-spec cast(term()) -> ok | large | {dropped, atom()} | {error, term()}.
cast(_Message) -> not_loaded().

%% @doc Publish a message of any size, on a dirty scheduler.
-spec cast_large(term()) -> ok | {dropped, atom()} | {error, term()}.
cast_large(_Message) -> not_loaded().

%% @doc Publish a message with what the caller knows about it: a map of `process',
%% `slot', `hashpath', `path', `assignment', `source', `from' (a list) and
%% `topics', each of which may be missing. `large' is as with `cast/1'.
-spec publish(term(), term()) -> ok | large | {dropped, atom()} | {error, term()}.
publish(_Message, _Origin) -> not_loaded().

%% @doc Publish a message of any size with its origin, on a dirty scheduler.
-spec publish_large(term(), term()) -> ok | {dropped, atom()} | {error, term()}.
publish_large(_Message, _Origin) -> not_loaded().

%% @doc Publish the message that a JSON text is, on a dirty scheduler.
-spec publish_json(term(), term()) -> ok | {dropped, atom()} | {error, term()}.
publish_json(_Body, _Origin) -> not_loaded().

%% @doc The next event of a process, as its slot and its number within it (0 is the
%% result, n the n-th message), and the ranges of missing slots that may still come.
-spec slot_mark(term()) -> {ok, Slot, Part, [{From, To}]} | none | {error, term()} when
    Slot :: non_neg_integer(), Part :: non_neg_integer(),
    From :: non_neg_integer(), To :: non_neg_integer().
slot_mark(_Process) -> not_loaded().

%% @doc Begin a process at a slot, unless it has a mark; gives the mark in force.
-spec set_slot_mark(term(), term()) -> {ok, Slot, Part, [{From, To}]} | {error, term()} when
    Slot :: non_neg_integer(), Part :: non_neg_integer(),
    From :: non_neg_integer(), To :: non_neg_integer().
set_slot_mark(_Process, _Slot) -> not_loaded().

%% @doc Publish events of a slot, a list of at most 256 `{Message, Origin}' and 4 MiB,
%% from number `Part' on: all of them or none. Those that are published already are
%% left out, and none may be missing before them. `large' is as with `cast/1'.
-spec publish_slot(term(), term(), term(), term(), term()) -> ok | large | {dropped, atom()} | {error, term()}.
publish_slot(_Process, _Slot, _Part, _Events, _IsLast) -> not_loaded().

%% @doc Publish events of a slot on a dirty scheduler. One that is too large is
%% published with word of where to GET it.
-spec publish_slot_large(term(), term(), term(), term(), term()) -> ok | {dropped, atom()} | {error, term()}.
publish_slot_large(_Process, _Slot, _Part, _Events, _IsLast) -> not_loaded().

%% @doc Tell the subscribers of a process that slots are missing, and go on behind
%% them. A reason is `not_cached' or `withheld', after which they may still come,
%% `not_followed', or `limit', which has `undefined' for both slots.
-spec publish_slot_gap(term(), term(), term(), term()) -> ok | {dropped, atom()} | {error, term()}.
publish_slot_gap(_Process, _From, _To, _Reason) -> not_loaded().

%% @doc Which processes have subscribers: at most `Max' ids, those subscribed to the
%% longest ago first, how many there are, and whether there are subscriptions that
%% name no process. With an id comes the time at which the first of its present
%% subscribers came, in milliseconds since 1970. The watcher is told of the first change after this.
-spec interest(term()) -> {ok, [{binary(), non_neg_integer()}], non_neg_integer(), boolean()} | {error, term()}.
interest(_Max) -> not_loaded().

%% @doc Make the caller the watcher: it gets `{websocket_interest, changed}' for
%% the next change, and after each `interest/1' for the first one.
-spec watch_interest() -> ok | {error, term()}.
watch_interest() -> not_loaded().

%% @doc Count one of `hints', `hints_dropped', `tail_probes', `tail_read_failures' and
%% `withheld'.
-spec count_result(term()) -> ok | {error, term()}.
count_result(_Name) -> not_loaded().

%% @doc Show how many processes are followed, how many of them wait for a reader, and where
%% results come from: `cache', `no_local_store' or `no_node'.
-spec set_tails(term(), term(), term()) -> ok | {error, term()}.
set_tails(_Tails, _Waiting, _Source) -> not_loaded().

%% @doc Say whether anybody could receive a message. Nothing is counted.
-spec has_audience() -> boolean() | {error, term()}.
has_audience() -> not_loaded().

%% @doc Count what the caller has dropped itself: as `refused', `malformed' or
%% `repeated'.
-spec count_dropped(term()) -> ok | {error, term()}.
count_dropped(_Reason) -> not_loaded().

%% @doc Where clients connect, and the known topics.
-spec info() -> {ok, binary(), [binary()]} | {error, term()}.
info() -> not_loaded().

%% @doc What a client needs to know, as a map and as a JSON document.
-spec describe() -> {ok, map(), binary()} | {error, term()}.
describe() -> not_loaded().

%% @doc Every setting with its present value, or its default without a server.
-spec settings() -> #{atom() => term()} | {error, term()}.
settings() -> not_loaded().

%% @doc The settings that protect: one of these with a value that does not fit keeps
%% the server closed.
-spec protective() -> [atom()] | {error, term()}.
protective() -> not_loaded().

%% @doc Every count by its name.
-spec stats() -> #{binary() => non_neg_integer()} | {error, term()}.
stats() -> not_loaded().

%% @doc What is counted and measured: `{Name, Help, Type, Samples}' for each name of
%% Prometheus, as `prometheus_model_helpers:create_mf/4' takes them.
-spec metrics() -> {ok, [{binary(), binary(), atom(), list()}]} | {error, term()}.
metrics() -> not_loaded().

%% @doc Have the node's own metrics tell ours as well, where it has prometheus.erl. As
%% a collector this module can be relied on to be there: its name is the same in
%% every node, and it stays loaded.
-spec register_collector() -> ok | {error, no_prometheus}.
register_collector() ->
    try prometheus_registry:register_collector(?MODULE)
    catch _:_ -> {error, no_prometheus}
    end.

%% @doc Called by prometheus.erl when somebody reads the node's metrics.
-spec collect_mf(term(), fun((term()) -> term())) -> ok.
collect_mf(_Registry, Callback) ->
    case metrics() of
        {ok, Families} ->
            lists:foreach(
                fun({Name, Help, Type, Samples}) ->
                    Callback(prometheus_model_helpers:create_mf(Name, Help, Type, Samples))
                end,
                Families
            );
        {error, _} ->
            ok
    end.

%% @doc Called by prometheus.erl when a registry is emptied.
-spec deregister_cleanup(term()) -> ok.
deregister_cleanup(_Registry) -> ok.

%% @doc Say whether the settings would be taken.
-spec validate(term()) -> ok | {error, term()}.
validate(_Settings) -> not_loaded().

%% @doc Make the caller the proxy of a listener: it gets `{inbound, Cost, Message}'
%% for each message of a client.
-spec listen(term()) -> ok | {error, term()}.
listen(_Listener) -> not_loaded().

%% @doc End a listener, and say who its proxy was.
-spec unlisten(term()) -> {ok, pid()} | {error, term()}.
unlisten(_Listener) -> not_loaded().

%% @doc Say that messages of so much cost are with the listener.
-spec acknowledge(term()) -> ok | {error, term()}.
acknowledge(_Cost) -> not_loaded().

%% @doc Send to one connection. `large' is as with `cast/1'.
-spec send(term(), term()) -> ok | large | {error, term()}.
send(_Connection, _Payload) -> not_loaded().

%% @doc Send to one connection what may be large, on a dirty scheduler.
-spec send_large(term(), term()) -> ok | {error, term()}.
send_large(_Connection, _Payload) -> not_loaded().

%% @doc Ask what is known of a connection.
-spec connection(term(), term()) -> ok | {error, term()}.
connection(_Ref, _Connection) -> not_loaded().

%% @doc Make the caller the one that gets what goes to the log, in batches:
%% `{log, [{Level, Text, Metadata}]}'.
-spec read_log() -> ok | {error, term()}.
read_log() -> not_loaded().

%% @doc Say that a batch is logged, and ask for the next one.
-spec acknowledge_log() -> ok | {error, term()}.
acknowledge_log() -> not_loaded().

%% @doc Say whether some process gets what goes to the log.
-spec is_log_read() -> boolean() | {error, term()}.
is_log_read() -> not_loaded().

%% @doc Ask for a page of the connections: at most `Limit' (1 to 1000) with numbers
%% greater than `After', in order. `{error, no_connection}' when there are none.
-spec connections(term(), term(), term()) -> ok | {error, term()}.
connections(_Ref, _After, _Limit) -> not_loaded().

%% @doc End a connection.
-spec disconnect(term()) -> ok | {error, term()}.
disconnect(_Connection) -> not_loaded().

%% @doc The version of the native functions. A device of another version must not use them.
-spec interface() -> pos_integer() | {error, term()}.
interface() -> not_loaded().

%% @doc The application that this module belongs to, for its environment.
-spec application() -> atom().
application() -> ?APPLICATION.

%% @doc Load the library, unless it is loaded.
-spec load() -> ok | {error, {engine_not_loaded, term()}}.
load() ->
    case persistent_term:get(?NOT_LOADED, loaded) of
        loaded -> ok;
        _ -> remember(load_library())
    end.

%%% Private functions.

%% @doc A module whose `on_load' fails takes everything that calls it down, so it
%% fails in one case only: when this module is loaded again while it works. The
%% library cannot change hands, and what works stays.
on_load() ->
    case load_library() of
        {error, {upgrade, _}} = Error ->
            Error;
        Result ->
            _ = remember(Result),
            ok
    end.

load_library() ->
    Files = files(),
    Found = [File || File <- Files, filelib:is_regular(File ++ ".so")],
    load_first(Found, {error, {no_library, Files}}).

load_first([], Error) -> Error;
load_first([File | Files], _Error) ->
    case erlang:load_nif(File, 0) of
        ok -> ok;
        {error, {Reason, _}} = Error when Reason =:= reload; Reason =:= upgrade -> Error;
        {error, _} = Error -> load_first(Files, Error)
    end.

%% @doc Keep why the library is not there, as the answer of every call.
remember({error, {reload, _}}) ->
    remember(ok);
remember(ok) ->
    _ = persistent_term:erase(?NOT_LOADED),
    ok;
remember({error, Reason}) ->
    Error = {error, {engine_not_loaded, Reason}},
    persistent_term:put(?NOT_LOADED, Error),
    Error.

%% @doc Where the library may lie, without its extension: in the application's
%% `priv', in the `priv' beside the folder of this module, or with the module
%% itself, as in the resources of a packaged device.
files() ->
    Priv = [Dir || Dir <- [code_server(priv_dir, ?APPLICATION)], is_list(Dir)],
    Beam = [filename:dirname(File) || File <- [code_server(which, ?MODULE)], is_list(File)],
    lists:usort(
        [filename:join([Dir, "crates", ?CRATE, ?CRATE]) || Dir <- Priv] ++
        [filename:join([filename:dirname(Dir), "priv", "crates", ?CRATE, ?CRATE]) || Dir <- Beam] ++
        [filename:join([filename:dirname(Dir), "crates", ?CRATE, ?CRATE]) || Dir <- Beam] ++
        [filename:join(Dir, ?CRATE) || Dir <- Beam]
    ).

%% @doc Ask the code server, which may not run yet when an embedded system loads
%% its modules.
code_server(Question, Argument) ->
    try code:Question(Argument)
    catch _:_ -> unknown
    end.

%% @doc What stands in for every native function. The term is kept rather than
%% built, so that a call costs nothing.
not_loaded() ->
    persistent_term:get(?NOT_LOADED, {error, {engine_not_loaded, not_tried}}).
