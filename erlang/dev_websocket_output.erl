%%% @doc Events in the output of a process: lines that are JSON objects with `"_e":1'.
%%%
%%% A program prints such lines so that others can follow it. The engine parses them, because
%%% Erlang/OTP 25 has no JSON. The same result always gives the same events, so new and
%%% replayed slots have the same ones.
%%%
%%% Programs of different kinds leave their output in different places. A text that two
%%% places repeat is used once.
-module(dev_websocket_output).
-export([events/1, told/2]).

%% The key as a line spells it. Outputs without it are not searched any further.
-define(MARK, <<"\"_e\"">>).

%% Places of texts in a result.
-define(PLACES, [
    [<<"output">>],
    [<<"output">>, <<"data">>],
    [<<"output">>, <<"data">>, <<"output">>],
    [<<"output">>, <<"body">>],
    [<<"output">>, <<"print">>],
    [<<"data">>],
    [<<"data">>, <<"output">>]
]).

%% The events, and the number of lines that a limit left out.
-type events() :: {[{line, binary(), binary()}], non_neg_integer()}.

%% @doc The events of a result, at most `max_output_events': the place of their text, and
%% their line.
-spec events(map()) -> events().
events(Results) ->
    case marked(Results) of
        [] -> {[], 0};
        Texts ->
            case hb_websocket_nif:settings() of
                #{max_output_events := Max} when Max > 0 -> found(Texts, Max, [], 0);
                _ -> {[], 0}
            end
    end.

%% @doc The data of a result with the number of its events, if it has any, and the number of
%% lines that were left out.
-spec told(events(), map()) -> map().
told({Events, Omitted}, Data) ->
    Counts = [{<<"event-count">>, length(Events)}, {<<"events-omitted">>, Omitted}],
    maps:merge(Data, maps:from_list([Count || {_, Number} = Count <- Counts, Number > 0])).

%%% Private functions.

marked(Results) ->
    lists:foldl(
        fun(Place, Texts) ->
            case text(Place, Results) of
                Text when is_binary(Text) ->
                    IsNew = not lists:keymember(Text, 2, Texts) andalso binary:match(Text, ?MARK) =/= nomatch,
                    Texts ++ [{iolist_to_binary(lists:join(<<"/">>, Place)), Text} || IsNew];
                _ ->
                    Texts
            end
        end,
        [],
        ?PLACES
    ).

text([], Value) -> Value;
text([Key | Place], Map) when is_map(Map) ->
    case dev_websocket_process:value(Key, Map) of
        {ok, Value} -> text(Place, Value);
        none -> none
    end;
text(_Place, _Value) -> none.

found([], _Max, Found, Omitted) ->
    {lists:append(lists:reverse(Found)), Omitted};
found([{Place, Text} | Texts], Max, Found, Omitted) ->
    {ok, Lines, More} = hb_websocket_nif:output_events(Text, Max),
    found(Texts, Max - length(Lines), [[{line, Place, Line} || Line <- Lines] | Found], Omitted + More).
