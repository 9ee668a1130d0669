%%% @doc What calls of the device's keys are good for: the id of a process that may have a
%%% new slot. Nothing else of a call is used, as everybody can make one with any content.
%%%
%%% Hints are cheap: while nobody is interested in any process they cost a look into a
%%% table, and nothing here raises, waits or loads.
-module(dev_websocket_hint).
-export([of_state/2, of_response/2, of_step/0]).

%% Bytes of a path that are searched for ids, and ids that are taken from it.
-define(MAX_PATH, 4096).
-define(MAX_IDS, 4).
%% Set once the warning about the hook `step' is written.
-define(WARNED, {hb_websocket_nif, step_warned}).

%% @doc A state passes through the device in a stack: the process that it names.
-spec of_state(term(), term()) -> ok.
of_state(Base, Opts) ->
    quietly(fun() ->
        _ = dev_websocket_engine:adopt(Opts),
        dev_websocket_tails:is_wanted() andalso hint(process_ids(Base))
    end).

%% @doc The node answers a request: ids that its path names.
-spec of_response(term(), term()) -> ok.
of_response(Response, Opts) ->
    quietly(fun() ->
        _ = dev_websocket_engine:adopt(Opts),
        case Response of
            #{<<"request">> := #{<<"path">> := Path}} when is_binary(Path) ->
                dev_websocket_tails:is_wanted() andalso hint(ids(binary:part(Path, 0, min(byte_size(Path), ?MAX_PATH)), ?MAX_IDS));
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

%%% Private functions.

hint(Ids) ->
    lists:foreach(fun dev_websocket_tails:hint/1, Ids).

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
