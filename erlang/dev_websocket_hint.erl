%%% @doc Hints from calls of the device's keys: ids of processes that may have a new slot.
%%% Nothing else of a call is used, because anybody can make one with any content.
%%%
%%% Hints are cheap: while nobody is interested in any process they cost a look into a
%%% table, and nothing here raises, waits or loads. At most 64 wait for the server of the
%%% tails, which is woken by the first.
-module(dev_websocket_hint).
-export([give/1, of_state/2, of_response/2, of_step/0]).
-export([new_table/0, want/1, is_wanted/0, take/0]).

%% One for all copies of the device; the server is the one of `dev_websocket_tails'.
-define(TABLE, hb_websocket_hints).
-define(SERVER, hb_websocket_tails).
%% Hints that wait.
-define(MAX_HINTS, 64).
%% Bytes of a path that are searched for ids, and ids that are taken from it.
-define(MAX_PATH, 4096).
-define(MAX_IDS, 4).
%% Set once the warning about the hook `step' is written.
-define(WARNED, {hb_websocket_nif, step_warned}).

%% @doc A process may have a new slot. Anything that is no id is ignored.
-spec give(term()) -> ok.
give(Id) ->
    quietly(fun() ->
        is_wanted() andalso dev_websocket_cache:is_id(Id) andalso keep(Id)
    end).

%% @doc A state passes through the device in a stack: take the id of its process.
-spec of_state(term(), term()) -> ok.
of_state(Base, Opts) ->
    quietly(fun() ->
        _ = dev_websocket_engine:adopt(Opts),
        is_wanted() andalso hint(process_ids(Base))
    end).

%% @doc The node has answered a request: take the ids in its path.
-spec of_response(term(), term()) -> ok.
of_response(Response, Opts) ->
    quietly(fun() ->
        _ = dev_websocket_engine:adopt(Opts),
        case Response of
            #{<<"request">> := #{<<"path">> := Path}} when is_binary(Path) ->
                is_wanted() andalso hint(ids(binary:part(Path, 0, min(byte_size(Path), ?MAX_PATH)), ?MAX_IDS));
            _ ->
                ok
        end
    end).

%% @doc A node still has the hook `step': one warning in the life of the VM.
-spec of_step() -> ok.
of_step() ->
    case persistent_term:get(?WARNED, false) of
        true ->
            ok;
        false ->
            persistent_term:put(?WARNED, true),
            dev_websocket_log:log(
                warning,
                #{event => step_hook},
                "The hook step of websocket@1.0 does nothing and slows the node down. Remove it from the option on.",
                []
            )
    end.

%% @doc Called by the supervisor, which owns the table.
-spec new_table() -> ok.
new_table() ->
    _ = ets:new(?TABLE, [set, named_table, public]),
    ok.

%% @doc Set whether hints are of use.
-spec want(boolean()) -> ok.
want(IsWanted) ->
    true = ets:insert(?TABLE, {wanted, IsWanted}),
    ok.

%% @doc Whether anybody is interested in processes, so that a hint is of use.
-spec is_wanted() -> boolean().
is_wanted() ->
    try ets:lookup(?TABLE, wanted) =:= [{wanted, true}]
    catch error:badarg -> false
    end.

%% @doc The hints that wait. The next one wakes the server again.
-spec take() -> [binary()].
take() ->
    true = ets:delete(?TABLE, awake),
    Ids = [Id || {Id, hint} <- ets:tab2list(?TABLE)],
    lists:foreach(fun(Id) -> true = ets:delete(?TABLE, Id) end, Ids),
    Ids.

%%% Private functions.

keep(Id) ->
    case ets:info(?TABLE, size) =< ?MAX_HINTS of
        true ->
            _ = ets:insert(?TABLE, {Id, hint}),
            ets:insert_new(?TABLE, {awake, true}) andalso (?SERVER ! hinted);
        false ->
            hb_websocket_nif:count_result(hints_dropped)
    end.

hint(Ids) ->
    lists:foreach(fun give/1, Ids).

%% @doc Runs of 43 characters of base64url, as an id is.
ids(_Path, 0) ->
    [];
ids(Path, Left) ->
    case re:run(Path, <<"(?<![A-Za-z0-9_-])[A-Za-z0-9_-]{43}(?![A-Za-z0-9_-])">>, [{capture, first, index}]) of
        {match, [{At, Length}]} ->
            <<_:At/binary, Id:Length/binary, Rest/binary>> = Path,
            [Id | ids(Rest, Left - 1)];
        nomatch ->
            []
    end.

%% @doc The ids by which a process may be known; in the cache it is a link.
process_ids(#{<<"process">> := #{<<"commitments">> := Commitments}}) when is_map(Commitments) ->
    lists:sublist([Id || {Id, #{<<"committer">> := _}} <- maps:to_list(Commitments)], ?MAX_IDS);
process_ids(#{<<"process">> := {link, Id, _}}) when is_binary(Id) ->
    ids(binary:part(Id, 0, min(byte_size(Id), ?MAX_PATH)), 1);
process_ids(_) ->
    [].

quietly(Call) ->
    _ = try Call()
    catch _:_ -> ok
    end,
    ok.
