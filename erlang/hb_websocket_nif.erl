%%% @doc The native functions: one stub for each function of `native/dev_websocket_nif', and
%%% the loading of that library.
%%%
%%% The library contains the name of this module, so nodes that rename the device's other
%%% modules keep it. All copies of the device share this module and the one engine behind
%%% it.
%%%
%%% Loading this module never fails. Without the library each call returns
%%% `{error, {engine_not_loaded, Reason}}', and `load/0' tries again.
%%%
%%% Functions that take a `Ref' return `ok' at once and send `{Ref, Result}' to the caller
%%% later; `dev_websocket_engine:request/1' waits for that message.
-module(hb_websocket_nif).
-export([boot/2, start/2, stop/1, shut/2]).
-export([cast/1, cast_large/1, publish/2, publish_large/2, publish_json/2]).
-export([slot_mark/1, set_slot_mark/2, publish_slot/5, publish_slot_large/5, publish_slot_gap/4]).
-export([interest/1, wants_edges/1, watch_interest/0, count_result/1, set_tails/3]).
-export([watch_slot_replays/0, slot_replays/1, replay_slot/5, replay_slot_large/5]).
-export([replay_gap/4, replay_live/1, replay_failed/2]).
-export([output_events/2]).
-export([has_audience/0, count_dropped/1]).
-export([describe/0, info/0, settings/0, protective/0, stats/0, validate/1]).
-export([listen/1, unlisten/1, acknowledge/1, send/2, send_large/2]).
-export([connection/2, connections/3, disconnect/1]).
-export([token/4, revoke_token/1, revoke_subject/2]).
-export([read_log/0, acknowledge_log/0, is_log_read/0]).
-export([metrics/0, register_collector/0, collect_mf/2, deregister_cleanup/1]).
-export([load/0, application/0, interface/0]).

-on_load(on_load/0).

-define(APPLICATION, dev_websocket).
-define(CRATE, "dev_websocket_nif").
-define(NOT_LOADED, {?MODULE, not_loaded}).

%% @doc Start the server unless it was started or stopped before in this VM, and send its
%% state.
-spec boot(term(), term()) -> ok | {error, term()}.
boot(_Ref, _Settings) -> not_loaded().

%% @doc Start the server, or change the settings of a running one.
-spec start(term(), term()) -> ok | {error, term()}.
start(_Ref, _Settings) -> not_loaded().

%% @doc Stop the server.
-spec stop(term()) -> ok | {error, term()}.
stop(_Ref) -> not_loaded().

%% @doc Close the server because of bad values in these settings. Each call returns them
%% until the server is started.
-spec shut(term(), term()) -> ok | {error, term()}.
shut(_Ref, _Settings) -> not_loaded().

%% @doc Publish a message. The answer `large' means that the message needs more time than a
%% scheduler thread has, and was not published; call `cast_large/1'.
-spec cast(term()) -> ok | large | {dropped, atom()} | {error, term()}.
cast(_Message) -> not_loaded().

%% @doc Publish a message of any size, on a dirty scheduler.
-spec cast_large(term()) -> ok | {dropped, atom()} | {error, term()}.
cast_large(_Message) -> not_loaded().

%% @doc Publish a message with its provenance: a map of `process', `slot', `hashpath',
%% `path', `assignment', `source', `from' (a list) and `topics', all optional. The answer
%% `large' means the same as in `cast/1'.
-spec publish(term(), term()) -> ok | large | {dropped, atom()} | {error, term()}.
publish(_Message, _Provenance) -> not_loaded().

%% @doc Publish a message of any size with its provenance, on a dirty scheduler.
-spec publish_large(term(), term()) -> ok | {dropped, atom()} | {error, term()}.
publish_large(_Message, _Provenance) -> not_loaded().

%% @doc Publish a message that is JSON text, on a dirty scheduler.
-spec publish_json(term(), term()) -> ok | {dropped, atom()} | {error, term()}.
publish_json(_Body, _Provenance) -> not_loaded().

%% @doc The mark of a process: its next event, and the ranges of missing slots that may
%% still come. `Part' is 0 for the result of the slot, and n for its n-th message.
-spec slot_mark(term()) -> {ok, Slot, Part, [{From, To}]} | none | {error, term()} when
    Slot :: non_neg_integer(), Part :: non_neg_integer(),
    From :: non_neg_integer(), To :: non_neg_integer().
slot_mark(_Process) -> not_loaded().

%% @doc Set the mark of a process to a slot, unless it has one. The mark in force is returned.
-spec set_slot_mark(term(), term()) -> {ok, Slot, Part, [{From, To}]} | {error, term()} when
    Slot :: non_neg_integer(), Part :: non_neg_integer(),
    From :: non_neg_integer(), To :: non_neg_integer().
set_slot_mark(_Process, _Slot) -> not_loaded().

%% @doc Publish events of a slot from number `Part' on, all or none: a list of at most 256
%% `{Message, Provenance}' and 4 MiB. Events that are published already are left out, and
%% no event may be missing before them. The answer `large' means the same as in `cast/1'.
-spec publish_slot(term(), term(), term(), term(), term()) -> ok | large | {dropped, atom()} | {error, term()}.
publish_slot(_Process, _Slot, _Part, _Events, _IsLast) -> not_loaded().

%% @doc Publish events of a slot on a dirty scheduler. An event that is too large is
%% published with its path instead of its data.
-spec publish_slot_large(term(), term(), term(), term(), term()) -> ok | {dropped, atom()} | {error, term()}.
publish_slot_large(_Process, _Slot, _Part, _Events, _IsLast) -> not_loaded().

%% @doc Publish a gap for missing slots of a process, and go on behind them. The reason is
%% `not_cached', `withheld' (the slots may still come in both cases), `not_followed', or
%% `limit' with `undefined' for both slots.
-spec publish_slot_gap(term(), term(), term(), term()) -> ok | {dropped, atom()} | {error, term()}.
publish_slot_gap(_Process, _From, _To, _Reason) -> not_loaded().

%% @doc The processes with subscribers: at most `Max' ids, oldest subscription first, their
%% total number, and whether subscriptions without a process exist. Each id has the time of
%% its first present subscriber, in milliseconds since 1970. The watcher is told of the
%% first change after this call.
-spec interest(term()) -> {ok, [{binary(), non_neg_integer()}], non_neg_integer(), boolean()} | {error, term()}.
interest(_Max) -> not_loaded().

%% @doc Whether a client wants the edges of a process. The edge is then the last event of each
%% slot, and `publish_slot/5' refuses the end of a slot without it as `{error, edge_wanted}'.
-spec wants_edges(term()) -> boolean() | {error, term()}.
wants_edges(_Process) -> not_loaded().

%% @doc Make the caller the watcher. It receives `{websocket_interest, changed}' for the next
%% change, and for the first change after each `interest/1'.
-spec watch_interest() -> ok | {error, term()}.
watch_interest() -> not_loaded().

%% @doc Count one of `exceptions', `hints', `hints_dropped', `tail_probes',
%% `tail_read_failures' and `withheld'.
-spec count_result(term()) -> ok | {error, term()}.
count_result(_Name) -> not_loaded().

%% @doc Set the gauges of followed processes, of those that wait for a reader, and the source
%% of results: `cache', `no_local_store', `no_node' or `off'.
-spec set_tails(term(), term(), term()) -> ok | {error, term()}.
set_tails(_Tails, _Waiting, _Source) -> not_loaded().

%% @doc Make the caller the reader of slot replays. It receives `{websocket_slot_replays,
%% changed}' for the first replay that is due or has ended after each `slot_replays/1'.
%% Replays that another reader had begun are due again.
-spec watch_slot_replays() -> ok | {error, term()}.
watch_slot_replays() -> not_loaded().

%% @doc The slot replays that are due, at most `Max', longest first: their next event. Each
%% waits for one of the steps below. Those that have ended are returned as well.
-spec slot_replays(term()) -> {ok, [{Replay, binary(), Slot, Part}], [Replay]} | {error, term()} when
    Replay :: non_neg_integer(), Slot :: non_neg_integer(), Part :: non_neg_integer().
slot_replays(_Max) -> not_loaded().

%% @doc Send events of a slot from number `Part' on to the client of a slot replay, as
%% `publish_slot/5' publishes them. They must be the next ones.
-spec replay_slot(term(), term(), term(), term(), term()) -> ok | large | {dropped, atom()} | {error, term()}.
replay_slot(_Replay, _Slot, _Part, _Events, _IsLast) -> not_loaded().

%% @doc Send events on a dirty scheduler, as `publish_slot_large/5' publishes them.
-spec replay_slot_large(term(), term(), term(), term(), term()) -> ok | {dropped, atom()} | {error, term()}.
replay_slot_large(_Replay, _Slot, _Part, _Events, _IsLast) -> not_loaded().

%% @doc Tell the client of a slot replay that slots are missing, from the next one on. The
%% reason is `not_cached', `withheld' or `not_replayed'.
-spec replay_gap(term(), term(), term(), term()) -> ok | {dropped, atom()} | {error, term()}.
replay_gap(_Replay, _From, _To, _Reason) -> not_loaded().

%% @doc Let the client of a slot replay go live. The replay is due again if further slots
%% were published.
-spec replay_live(term()) -> ok | {dropped, atom()} | {error, term()}.
replay_live(_Replay) -> not_loaded().

%% @doc End a slot replay because of `no_node', `no_local_store', `unknown_process', `limit'
%% (of followed processes) or `unreadable'. The client is told, with the slots that it
%% misses, and goes live.
-spec replay_failed(term(), term()) -> ok | {dropped, atom()} | {error, term()}.
replay_failed(_Replay, _Reason) -> not_loaded().

%% @doc The lines of a text that are events, at most `Max', and the number of lines that a
%% limit left out. Such a line can be published as `{json, Line}' in place of a message.
-spec output_events(term(), term()) -> {ok, [binary()], non_neg_integer()} | {error, term()}.
output_events(_Text, _Max) -> not_loaded().

%% @doc Whether a client could receive a message. Nothing is counted.
-spec has_audience() -> boolean() | {error, term()}.
has_audience() -> not_loaded().

%% @doc Count a message that the caller dropped, as `refused', `malformed' or `repeated'.
-spec count_dropped(term()) -> ok | {error, term()}.
count_dropped(_Reason) -> not_loaded().

%% @doc The address for clients, and the known topics.
-spec info() -> {ok, binary(), [binary()]} | {error, term()}.
info() -> not_loaded().

%% @doc The information for clients, as a map and as a JSON document.
-spec describe() -> {ok, map(), binary()} | {error, term()}.
describe() -> not_loaded().

%% @doc All settings with their present values, or their defaults without a server.
-spec settings() -> #{atom() => term()} | {error, term()}.
settings() -> not_loaded().

%% @doc The settings that protect the node. A bad value of one keeps the server closed.
-spec protective() -> [atom()] | {error, term()}.
protective() -> not_loaded().

%% @doc All counters by their names.
-spec stats() -> #{binary() => non_neg_integer()} | {error, term()}.
stats() -> not_loaded().

%% @doc All metrics as `{Name, Help, Type, Samples}', for `create_mf/4' of the module
%% `prometheus_model_helpers'.
-spec metrics() -> {ok, [{binary(), binary(), atom(), list()}]} | {error, term()}.
metrics() -> not_loaded().

%% @doc Add the metrics to those of the node, if it has prometheus.erl. This module is the
%% collector, because its name is the same on every node and it stays loaded.
-spec register_collector() -> ok | {error, no_prometheus}.
register_collector() ->
    try prometheus_registry:register_collector(?MODULE)
    %% Also where prometheus.erl has not started yet: the engine's next start tries again.
    catch _:_ -> {error, no_prometheus}
    end.

%% @doc Called by prometheus.erl when the node's metrics are read.
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

%% @doc Whether the settings are valid.
-spec validate(term()) -> ok | {error, term()}.
validate(_Settings) -> not_loaded().

%% @doc Make the caller the proxy of a listener. It receives `{inbound, Cost, Message}' for
%% each message of a client.
-spec listen(term()) -> ok | {error, term()}.
listen(_Listener) -> not_loaded().

%% @doc End a listener. Its proxy is returned.
-spec unlisten(term()) -> {ok, pid()} | {error, term()}.
unlisten(_Listener) -> not_loaded().

%% @doc Acknowledge messages of this cost: the listener has them.
-spec acknowledge(term()) -> ok | {error, term()}.
acknowledge(_Cost) -> not_loaded().

%% @doc Send to one connection. The answer `large' means the same as in `cast/1'.
-spec send(term(), term()) -> ok | large | {error, term()}.
send(_Connection, _Payload) -> not_loaded().

%% @doc Send a payload of any size to one connection, on a dirty scheduler.
-spec send_large(term(), term()) -> ok | {error, term()}.
send_large(_Connection, _Payload) -> not_loaded().

%% @doc Request the details of a connection.
-spec connection(term(), term()) -> ok | {error, term()}.
connection(_Ref, _Connection) -> not_loaded().

%% @doc Make the caller the reader of the log. It receives batches of events, as
%% `{log, [{Level, Text, Metadata}]}'.
-spec read_log() -> ok | {error, term()}.
read_log() -> not_loaded().

%% @doc Acknowledge a batch that is logged. The next one may come.
-spec acknowledge_log() -> ok | {error, term()}.
acknowledge_log() -> not_loaded().

%% @doc Whether the log has a reader.
-spec is_log_read() -> boolean() | {error, term()}.
is_log_read() -> not_loaded().

%% @doc Request a page of the connections: at most `Limit' (1 to 1000) with numbers greater
%% than `After', in order. An empty page is `{error, no_connection}'.
-spec connections(term(), term(), term()) -> ok | {error, term()}.
connections(_Ref, _After, _Limit) -> not_loaded().

%% @doc Close a connection.
-spec disconnect(term()) -> ok | {error, term()}.
disconnect(_Connection) -> not_loaded().

%% @doc Sign a token for a subject: a list of topics and globs, whether the holder may send,
%% and the life in seconds.
-spec token(term(), term(), term(), term()) -> {ok, binary()} | {error, term()}.
token(_Subject, _Topics, _Send, _Seconds) -> not_loaded().

%% @doc Revoke the token with an id.
-spec revoke_token(term()) -> ok | {error, term()}.
revoke_token(_Id) -> not_loaded().

%% @doc Revoke the tokens of a subject that were issued up to a time in seconds since 1970,
%% or up to `now'.
-spec revoke_subject(term(), term()) -> ok | {error, term()}.
revoke_subject(_Subject, _Until) -> not_loaded().

%% @doc The version of the native functions. A device that needs another version must not
%% call them.
-spec interface() -> pos_integer() | {error, term()}.
interface() -> not_loaded().

%% @doc The application of this module, for its environment.
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

%% @doc A failing `on_load' makes a module unusable. So it fails in one case only: when this
%% module is loaded again while it works. A library cannot move to new code, and the old
%% code stays.
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
    case load_checked(File) of
        ok -> ok;
        {error, {Reason, _}} = Error when Reason =:= reload; Reason =:= upgrade -> Error;
        {error, _} = Error -> load_first(Files, Error)
    end.

%% @doc Load a library that the system can load. A file without its end is mapped without an
%% error, and the VM dies as soon as it touches the missing part. A file for another machine
%% is reported as not found.
load_checked(File) ->
    case fault(elf(File ++ ".so")) of
        none -> erlang:load_nif(File, list_to_binary(erlang:system_info(otp_release)));
        Fault -> {error, {bad_library, lists:flatten([File, ".so ", Fault])}}
    end.

fault({_Machine, End, Size}) when Size < End ->
    io_lib:format("is incomplete: ~b of ~b bytes", [Size, End]);
fault({Machine, _End, _Size}) ->
    case elf("/proc/self/exe") of
        {Other, _, _} when Other =/= Machine -> "is for another machine";
        _ -> none
    end;
fault(none) ->
    none.

%% @doc The machine of an ELF file, its end by its header, and its size. The table of sections
%% is the last part of such a file. Files of other systems have another form.
elf(File) ->
    case file:open(File, [read, raw, binary]) of
        {ok, Device} ->
            Header = file:read(Device, 64),
            %% The files of /proc have no size, and only their machine counts.
            Size = case file:position(Device, eof) of
                {ok, Position} -> Position;
                {error, _} -> 0
            end,
            ok = file:close(Device),
            header(Header, Size);
        {error, _} ->
            none
    end.

%% @doc The header as in the System V ABI: the class (32 or 64 bits), the order of bytes, the
%% machine, and the place, size and number of the entries of the table of sections.
header({ok, <<16#7F, "ELF", 2, 1, _:12/binary, Machine:2/binary, _:20/binary, Place:64/little, _:10/binary, Entry:16/little, Number:16/little, _/binary>>}, Size) ->
    {{2, 1, Machine}, Place + Entry * Number, Size};
header({ok, <<16#7F, "ELF", 2, 2, _:12/binary, Machine:2/binary, _:20/binary, Place:64, _:10/binary, Entry:16, Number:16, _/binary>>}, Size) ->
    {{2, 2, Machine}, Place + Entry * Number, Size};
header({ok, <<16#7F, "ELF", 1, 1, _:12/binary, Machine:2/binary, _:12/binary, Place:32/little, _:10/binary, Entry:16/little, Number:16/little, _/binary>>}, Size) ->
    {{1, 1, Machine}, Place + Entry * Number, Size};
header({ok, <<16#7F, "ELF", 1, 2, _:12/binary, Machine:2/binary, _:12/binary, Place:32, _:10/binary, Entry:16, Number:16, _/binary>>}, Size) ->
    {{1, 2, Machine}, Place + Entry * Number, Size};
header({ok, <<16#7F, "ELF", _/binary>>}, Size) ->
    {short, 64, Size};
header(_Other, _Size) ->
    none.

%% @doc Keep the reason of a failed load as the answer of each call.
remember({error, {reload, _}}) ->
    remember(ok);
remember(ok) ->
    _ = persistent_term:erase(?NOT_LOADED),
    ok;
remember({error, Reason}) ->
    Error = {error, {engine_not_loaded, Reason}},
    persistent_term:put(?NOT_LOADED, Error),
    Error.

%% @doc The possible paths of the library, without its extension: in the application's
%% `priv', in the `priv' beside the folder of this module, and beside the module itself in
%% the resources of a package.
files() ->
    Priv = [Dir || Dir <- [code_server(priv_dir, ?APPLICATION)], is_list(Dir)],
    Beam = [filename:dirname(File) || File <- [code_server(which, ?MODULE)], is_list(File)],
    lists:usort(
        [filename:join([Dir, "crates", ?CRATE, ?CRATE]) || Dir <- Priv] ++
        [filename:join([filename:dirname(Dir), "priv", "crates", ?CRATE, ?CRATE]) || Dir <- Beam] ++
        [filename:join([filename:dirname(Dir), "crates", ?CRATE, ?CRATE]) || Dir <- Beam] ++
        [filename:join(Dir, ?CRATE) || Dir <- Beam]
    ).

%% @doc Ask the code server. An embedded system loads modules before it runs.
code_server(Question, Argument) ->
    try code:Question(Argument)
    catch _:_ -> unknown
    end.

%% @doc The answer of each stub. The term is stored rather than built, so a call costs
%% nothing.
not_loaded() ->
    persistent_term:get(?NOT_LOADED, {error, {engine_not_loaded, not_tried}}).
