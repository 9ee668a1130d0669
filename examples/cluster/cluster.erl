%%% @doc One of several nodes that share a stream: it casts a message twice a second.
-module(cluster).
-export([main/1]).

-define(PACE, 500).

%% @doc Start the device, and write to a file where clients connect, once the stream
%% is there. Called with `-run', so this returns and a process goes on.
main([Name, UriFile]) ->
    spawn(fun() ->
        try run(list_to_binary(Name), UriFile)
        catch Class:Reason:Trace ->
            io:format(standard_error, "Node ~ts failed: ~p~n", [Name, {Class, Reason, Trace}]),
            halt(1)
        end
    end).

run(Name, UriFile) ->
    {ok, _} = application:ensure_all_started(dev_websocket),
    {ok, #{uri := Uri}} = dev_websocket:info(),
    until_present(),
    ok = file:write_file(UriFile, [Uri, $\n]),
    cast(Name, 1).

until_present() ->
    case dev_websocket:stats() of
        #{<<"engine_present">> := 1} ->
            ok;
        #{} ->
            timer:sleep(20),
            until_present()
    end.

cast(Name, N) ->
    Message = #{<<"topic">> => <<"ticks">>, <<"node">> => Name, <<"data">> => N},
    {ok, <<"OK">>} = dev_websocket:cast(Message, #{}),
    timer:sleep(?PACE),
    cast(Name, N + 1).
